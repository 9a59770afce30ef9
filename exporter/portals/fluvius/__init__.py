"""Fluvius: electricity and gas in Flanders."""
