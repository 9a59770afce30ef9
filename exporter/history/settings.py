"""The `history` block of the configuration."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Block(BaseModel):
    """A block whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class HistorySettings(Block):
    """Where the true-time series go, and how much of them at once."""

    max_samples: Annotated[int, Field(ge=1, le=200_000_000, description="The most samples that one remote read may ask for.")] = (
        50_000_000
    )
    remote_write: Annotated[tuple[()], Field(description="Receivers of the true-time series; none are known yet.")] = ()
