"""The `history` block of the configuration."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from exporter.history.receivers import Block, Receiver

LARGEST_REQUEST = 1 << 20
"""Bytes of a remote read's request, before and after decompression."""


class HistorySettings(Block):
    """Where the true-time series go, and how much of them at once."""

    max_samples: Annotated[int, Field(ge=1, le=200_000_000, description="The most samples that one remote read may ask for.")] = (
        50_000_000
    )
    remote_write: Annotated[tuple[Receiver, ...], Field(description="Where the true-time series are sent.")] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [receiver.target for receiver in self.remote_write]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two receivers are called {twice}; give each a name of its own")
        return self
