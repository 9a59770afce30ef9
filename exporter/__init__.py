"""A Prometheus exporter for the customer portals of utility meters."""
