"""A simulation of CEM."""
