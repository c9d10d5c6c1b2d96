"""Pages of experiments: HTML for a run and an index over runs, Markdown for the docs.

A page says everything itself: pictures and styles are inside it, so it can be mailed, printed and kept.
"""
