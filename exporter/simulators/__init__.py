"""A strict simulation of each portal, for the demo and for the tests."""
