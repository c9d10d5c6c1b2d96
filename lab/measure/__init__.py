"""Measuring: load, histograms, summaries, processes, and the benchmark."""
