"""The metrics page: families, aggregates, the cached page and its exposition."""
