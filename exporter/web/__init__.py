"""HTTP: listening, access control, the metrics page and the status pages."""
