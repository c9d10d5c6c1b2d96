"""Load: its generators, and what they are aimed at or pass through."""
