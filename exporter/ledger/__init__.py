"""The database of readings, corrections and account state."""
