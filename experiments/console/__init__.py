"""How a command line is read: arguments, Hydra apps, help, and errors in one line."""
