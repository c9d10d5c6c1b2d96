"""The live page: the five models' anatomies with their present figures, drawn a few times a second.

It needs neither Prometheus nor Grafana: it reads the admin endpoints as `lab top` does, and keeps the last
quarter of an hour in memory. `history` samples, `anatomy` draws, `looks` says how a reading looks, `page` serves.
"""
