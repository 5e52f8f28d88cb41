"""The numbers of an experiment: collected, averaged over seeds, set beside the paper's, claims judged."""
