"""The meters of an account: light enough for thousands, found by a word, and what the live page's samples say of each."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from exporter.metrics import BY_NAME, AccountPage, Samples, Shown
from exporter.model import Commodity
from exporter.status.words import FIRM, utc

LATE = timedelta(days=4)
"""A reading older than this wants a look, where the portal's patience says nothing else."""
_KEPT = 4
"""Letters of an identifier that are shown where it is nobody's chosen name."""
_FLAGS = {
    "utility_divergent_consumption": (1, "Unusual consumption"),
    "utility_meter_active": (0, "Meter not in service"),
    "utility_flow_limitation": (1, "Flow is limited"),
    "utility_up_to_date": (0, "Not up to date"),
    "utility_no_data_permission": (1, "The portal withholds the data"),
}
Values = Mapping[str, Mapping[tuple[str, ...], float]]
"""Of one usage point: family -> the labels after it -> value."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One usage point: what it is called, where it is, and whether a person should look at it."""

    point: str
    commodity: str
    title: str
    about: tuple[str, ...]
    site: str
    flags: tuple[str, ...]
    read: datetime | None
    """The instant its newest value describes."""
    found_by: str
    """What a search looks through, in small letters."""
    patience: timedelta = LATE
    """How old the newest reading may be."""

    def late(self, now: datetime) -> bool:
        """Whether the newest reading is old."""
        return self.read is not None and now - self.read > self.patience

    def wants_a_look(self, now: datetime) -> bool:
        """Whether a person should look at it."""
        return bool(self.flags) or self.late(now)


class Shelf:
    """All meters of an account in the order of their sites and titles, made of its samples at an instant."""

    def __init__(self, part: AccountPage, now: datetime) -> None:
        self.shown, self.now = part.shown, now
        self._samples = part.samples(now)
        self._registers = _by_point(self._samples)
        infos = self._samples.get("utility_usage_point_info", {})
        self.meters = sorted((self._meter(labels) for labels in infos), key=lambda one: (_natural(one.site), _natural(one.title)))

    def values(self, meter: Meter) -> Values:
        """Give all that is known of a meter."""
        values: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for family, labels, value in self._registers.get(meter.point, ()):
            values[family][labels] = value
        for family, found in self._samples.items():
            if (value_of := found.get((self.shown.account, meter.point))) is not None and _is_of_a_point(family):
                values[family][()] = value_of
        return values

    def _meter(self, labels: tuple[str, ...]) -> Meter:
        account, point, _, commodity, meter, site, name, _ = labels
        title, about = _called(self.shown, labels)
        read = self._samples.get("utility_reading_timestamp_seconds", {}).get((account, point))
        return Meter(
            point=point,
            commodity=commodity,
            title=title,
            about=about,
            site=site,
            flags=tuple(text for family, (bad, text) in _FLAGS.items() if self._flag(family, account, point) == bad),
            read=None if read is None else utc(read),
            found_by="\n".join((point, commodity, meter, site, name)).casefold(),
            patience=self.shown.patience.get(Commodity(commodity), LATE),
        )

    def _flag(self, family: str, account: str, point: str) -> float | None:
        return self._samples.get(family, {}).get((account, point))


def _by_point(samples: Samples) -> dict[str, list[tuple[str, tuple[str, ...], float]]]:
    """Gather what is known of registers by their usage point."""
    found: dict[str, list[tuple[str, tuple[str, ...], float]]] = defaultdict(list)
    for family, values in samples.items():
        if BY_NAME[family].labels[1:3] == ("usage_point", "register"):
            for labels, value in values.items():
                found[labels[1]].append((family, labels[2:], value))
    return found


def _is_of_a_point(family: str) -> bool:
    return BY_NAME[family].labels == ("account", "usage_point")


def _called(shown: Shown, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give a usage point's title and what else says which it is; numbers are shortened unless their owner allows them."""
    _, point, _, commodity, meter, _, name, address = labels
    chosen = point in shown.aliases.values()
    number, serial = (point, meter) if shown.personal else (_short(point), _short(meter))
    kind = "Meter" if commodity == Commodity.OTHER else commodity.capitalize()
    title = point if chosen else name or f"{kind} {number}"
    about = ["" if kind in title else kind, name if chosen else number if name else "", address]
    if meter and serial != _short(point):
        about.append(f"meter{FIRM}{serial}")
    return title, tuple(text for text in about if text and text != title)


def _short(text: str) -> str:
    return text if len(text) <= _KEPT + 1 else f"…\u2060{text[-_KEPT:]}"


@lru_cache(maxsize=10_000)
def _natural(text: str) -> tuple[tuple[str, int], ...]:
    """Sort Flat 9 before Flat 10."""
    return tuple((word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d{0,18})", text.casefold())[:8])
