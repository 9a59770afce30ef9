"""The portals; each is a package with the same file names."""
