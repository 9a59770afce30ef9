"""Recordings: what a portal answered, made safe to publish; and the shape that the clients rely on."""
