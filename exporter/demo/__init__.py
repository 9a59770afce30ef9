"""A simulation of each portal on the loopback, strict about its protocol: for `demo`, and for the tests."""
