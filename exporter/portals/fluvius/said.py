"""Errors of our own, said again with the place they belong to."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from exporter.errors import PortalError


def at(place: str, error: PortalError) -> PortalError:
    """Give the same error with a place before its message."""
    placed = copy.copy(error)
    placed.args = (f"{place}: {error}",)
    return placed


@contextmanager
def step(place: str) -> Iterator[None]:
    """Name the place in what goes wrong inside."""
    try:
        yield
    except PortalError as error:
        raise at(place, error) from None
