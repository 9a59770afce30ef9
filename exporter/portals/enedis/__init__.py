"""Enedis Linky: electricity in France, by three ways of access."""
