"""The meters of an account: light enough for thousands, searchable, with the samples of each on the metrics page."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from exporter.account_status import AccountView
from exporter.metrics.families import FAMILIES_BY_NAME, Samples
from exporter.metrics.page import AccountMetrics
from exporter.models import Commodity
from exporter.web.status.formatting import NO_BREAK_SPACE

DEFAULT_STALE_AFTER = timedelta(days=4)
"""A reading older than this needs attention, unless the portal's `stale_after` says otherwise."""
_VISIBLE_DIGITS = 4
"""Characters of an identifier that are shown where no alias is configured."""
_FLAG_TEXTS = {
    "utility_divergent_consumption": (1, "Unusual consumption"),
    "utility_meter_active": (0, "Meter not in service"),
    "utility_flow_limitation": (1, "Flow is limited"),
    "utility_up_to_date": (0, "Not up to date"),
    "utility_no_data_permission": (1, "The portal withholds the data"),
}
Values = Mapping[str, Mapping[tuple[str, ...], float]]
"""Of one usage point: family -> its further labels -> value."""


@dataclass(frozen=True, slots=True)
class MeterSummary:
    """One usage point: its name, its site, and whether it needs attention."""

    usage_point: str
    commodity: str
    title: str
    details: tuple[str, ...]
    site: str
    flags: tuple[str, ...]
    last_reading: datetime | None
    """The instant its newest value describes."""
    search_text: str
    """The text that a search matches, in lower case."""
    stale_after: timedelta = DEFAULT_STALE_AFTER
    """How old the newest reading may be."""

    def is_stale(self, now: datetime) -> bool:
        """Return whether the newest reading is too old."""
        return self.last_reading is not None and now - self.last_reading > self.stale_after

    def needs_attention(self, now: datetime) -> bool:
        """Return whether it needs attention."""
        return bool(self.flags) or self.is_stale(now)


class MeterList:
    """All meters of an account in the order of their sites and titles, made of its samples at an instant."""

    def __init__(self, account: AccountMetrics, now: datetime) -> None:
        self.view, self.now = account.view, now
        self._samples = account.collect(now)
        self._registers = _group_by_usage_point(self._samples)
        infos = self._samples.get("utility_usage_point_info", {})
        self.meters = sorted(
            (self._build_meter(labels) for labels in infos),
            key=lambda meter: (_natural_sort_key(meter.site), _natural_sort_key(meter.title)),
        )

    def select_values(self, meter: MeterSummary) -> Values:
        """Return all samples of a meter."""
        values: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for family, labels, value in self._registers.get(meter.usage_point, ()):
            values[family][labels] = value
        for family, found in self._samples.items():
            if (single := found.get((self.view.account, meter.usage_point))) is not None and _describes_usage_point(family):
                values[family][()] = single
        return values

    def _build_meter(self, labels: tuple[str, ...]) -> MeterSummary:
        account, point, _, commodity, meter, site, name, _ = labels
        title, details = _choose_title(self.view, labels)
        last_reading = self._samples.get("utility_reading_timestamp_seconds", {}).get((account, point))
        return MeterSummary(
            usage_point=point,
            commodity=commodity,
            title=title,
            details=details,
            site=site,
            flags=tuple(text for family, (bad, text) in _FLAG_TEXTS.items() if self._read_flag(family, account, point) == bad),
            last_reading=None if last_reading is None else instant_from_seconds(last_reading),
            search_text="\n".join((point, commodity, meter, site, name)).casefold(),
            stale_after=self.view.stale_after.get(Commodity(commodity), DEFAULT_STALE_AFTER),
        )

    def _read_flag(self, family: str, account: str, point: str) -> float | None:
        return self._samples.get(family, {}).get((account, point))


def find_usage_point_id(view: AccountView, shown: str) -> str:
    """Return the id of a usage point as the ledger has it, for the name that is shown instead."""
    return next((stored for stored, alias in view.aliases.items() if alias == shown), shown)


def _group_by_usage_point(samples: Samples) -> dict[str, list[tuple[str, tuple[str, ...], float]]]:
    """Return the samples of registers by their usage point."""
    found: dict[str, list[tuple[str, tuple[str, ...], float]]] = defaultdict(list)
    for family, values in samples.items():
        if FAMILIES_BY_NAME[family].labels[1:3] == ("usage_point", "register"):
            for labels, value in values.items():
                found[labels[1]].append((family, labels[2:], value))
    return found


def _describes_usage_point(family: str) -> bool:
    return FAMILIES_BY_NAME[family].labels == ("account", "usage_point")


def _choose_title(view: AccountView, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return a usage point's title and further details; numbers are shortened unless `show_personal` is set."""
    _, point, _, commodity, meter, _, name, address = labels
    is_alias = point in view.aliases.values()
    number, serial = (point, meter) if view.show_personal else (_shorten(point), _shorten(meter))
    kind = "Meter" if commodity == Commodity.OTHER else commodity.capitalize()
    title = point if is_alias else name or f"{kind} {number}"
    details = ["" if kind in title else kind, name if is_alias else number if name else "", address]
    if meter and serial != _shorten(point):
        details.append(f"meter{NO_BREAK_SPACE}{serial}")
    return title, tuple(text for text in details if text and text != title)


def _shorten(text: str) -> str:
    return text if len(text) <= _VISIBLE_DIGITS + 1 else f"…\u2060{text[-_VISIBLE_DIGITS:]}"


@lru_cache(maxsize=10_000)
def _natural_sort_key(text: str) -> tuple[tuple[str, int], ...]:
    """Return a key that sorts Flat 9 before Flat 10."""
    return tuple((word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d{0,18})", text.casefold())[:8])


def instant_from_seconds(seconds: float) -> datetime:
    """Return the instant of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)
