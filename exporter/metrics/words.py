"""What the parts of the page say to each other: samples by family and labels, and how an account is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

Labels = tuple[str, ...]
Samples = dict[str, dict[Labels, float]]
"""Family name -> label values (in the family's order) -> value."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How an account is shown: its names and its local time."""

    account: str
    portal: str
    zone: ZoneInfo
    aliases: Mapping[str, str] = field(default_factory=dict)
    personal: bool = False
