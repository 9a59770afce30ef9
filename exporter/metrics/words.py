"""What the parts of the page say to each other: samples by family and labels, and how an account is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from zoneinfo import ZoneInfo

from exporter.model import Commodity

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
    patience: Mapping[Commodity, timedelta] = field(default_factory=dict)
    """How old the newest reading may be before it is called late, where that is not four days."""
