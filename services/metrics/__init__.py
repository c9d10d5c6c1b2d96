"""Counters and stages (slots, samples), and the admin process that shows them."""
