"""Benchmarks: each a module with a command line, writing Markdown under results/benchmarks/."""
