"""Enedis Linky: electricity in France, by three kinds of access."""
