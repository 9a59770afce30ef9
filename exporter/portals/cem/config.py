"""The types of CEM's configuration keys."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Parallelism = Annotated[int, Field(ge=1, le=8)]


class NumberSelection(BaseModel):
    """Numbers to include, or to exclude."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    include: Annotated[frozenset[int], Field(description="The numbers to include; all when empty.")] = frozenset()
    exclude: Annotated[frozenset[int], Field(description="The numbers to exclude.")] = frozenset()

    @model_validator(mode="after")
    def _check_disjoint(self) -> Self:
        if both := self.include & self.exclude:
            raise ValueError(f"{min(both)} is both included and excluded")
        return self
