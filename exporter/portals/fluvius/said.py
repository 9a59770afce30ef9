"""Errors said again with the place they belong to."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from exporter.errors import PortalError


@contextmanager
def step(place: str) -> Iterator[None]:
    """Put a place before the message of what goes wrong inside."""
    try:
        yield
    except PortalError as error:
        placed = copy.copy(error)
        placed.args = (f"{place}: {error}",)
        raise placed from None
