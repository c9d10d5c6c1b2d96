"""`lab grafana`: dashboards into any Grafana, and marks on its time axis, over its HTTP API."""
