"""One file per portal; `base` is what they all are."""
