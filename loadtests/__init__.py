"""The load generator: Locust users, load shapes, and an exporter for Prometheus."""
