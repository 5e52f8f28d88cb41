"""How an experiment is shown: its folder, figures, maps, samples and the HTML page."""
