"""Signatures: a file a kind, in each functions from a running system to one figure."""
