"""Experiments: their declaration, trials, checks and verdict, and how a run is made and shown."""
