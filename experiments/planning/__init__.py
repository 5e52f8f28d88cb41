"""From a config to the graph of stages, checked, and what it would cost."""
