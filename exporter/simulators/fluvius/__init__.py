"""A simulation of Fluvius."""
