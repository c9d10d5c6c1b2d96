"""Measuring: processes, the machine, histograms, summaries, tests of significance."""
