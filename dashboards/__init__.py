"""Grafana's dashboards, as Python: `python -m dashboards.build` writes them to `json/`, which is what Grafana reads."""
