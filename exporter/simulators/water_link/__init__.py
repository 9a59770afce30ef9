"""A simulation of Water-Link."""
