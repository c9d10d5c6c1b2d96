"""The benchmark: our servers and their peers, measured in one run."""
