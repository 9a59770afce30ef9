"""The meters of an account: those that are shown are read from the ledger, of the others only how many there are and how old.

Problem: an account may have 100,000 meters, and a page shows some tens; to read all of them takes seconds, and memory for good.
Idea: meters stand in the order of their sites, so the sites with the number of their meters tell which of them a page shows.
Only these meters are read, and their samples made as for the metrics page. How old the newest readings of all meters are, the
metrics cache has as numbers.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from exporter.account_status import AccountView
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import UsagePointRow
from exporter.metrics.aggregates import AccountSampleReader, MonthlyPeakHistory, display_name, find_month_start
from exporter.metrics.cache import AccountMetrics
from exporter.metrics.families import LabelValues
from exporter.models import DAY, Commodity, Fact, clean_label, natural_sort_key
from exporter.web.status.formatting import NO_BREAK_SPACE

DEFAULT_STALE_AFTER = timedelta(days=4)
"""A reading older than this needs attention, unless the portal's `stale_after` says otherwise."""
_VISIBLE_DIGITS = 4
"""Characters of an identifier that are shown where no alias is configured."""
_FLAGS = {
    "utility_divergent_consumption": (Fact.DIVERGENT_CONSUMPTION, 1, "Unusual consumption"),
    "utility_meter_active": (Fact.METER_ACTIVE, 0, "Meter not in service"),
    "utility_flow_limitation": (Fact.FLOW_LIMITATION, 1, "Flow is limited"),
    "utility_up_to_date": (Fact.UP_TO_DATE, 0, "Not up to date"),
    "utility_no_data_permission": (Fact.NO_DATA_PERMISSION, 1, "The portal withholds the data"),
}
"""Family -> the fact it shows, the value that needs attention, and what that means."""
_FLAG_VALUES = {fact: float(value) for fact, value, _ in _FLAGS.values()}
OpenSnapshot = Callable[[], AbstractContextManager[Snapshot]]
"""Opens a snapshot of the ledger; may block, and raise LedgerError."""
Values = Mapping[str, Mapping[tuple[str, ...], float]]
"""Of one usage point: family -> its further labels -> value."""


@dataclass(frozen=True, slots=True)
class MeterSummary:
    """One usage point: its name, its site, what it shows, and whether it needs attention."""

    id: str
    """As the ledger has it."""
    usage_point: str
    """As it is shown: its alias, or the same."""
    commodity: str
    title: str
    details: tuple[str, ...]
    site: str
    flags: tuple[str, ...]
    last_reading: datetime | None
    """The instant its newest value describes."""
    stale_after: timedelta = DEFAULT_STALE_AFTER
    """How old the newest reading may be."""
    values: Values = field(default_factory=dict)
    monthly_peaks: Sequence[tuple[date, float]] = ()
    """The first day of a month, and its highest quarter-hour in kW; the newest month first."""

    def is_stale(self, now: datetime) -> bool:
        """Return whether the newest reading is too old."""
        return self.last_reading is not None and now - self.last_reading > self.stale_after

    def needs_attention(self, now: datetime) -> bool:
        """Return whether it needs attention."""
        return bool(self.flags) or self.is_stale(now)


@dataclass(frozen=True, slots=True)
class MeterFilter:
    """Which meters are wanted: those whose names, numbers or sites contain a text, those that need attention."""

    text: str = ""
    attention_only: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.attention_only)


class MeterReader:
    """Reads the meters of an account from a snapshot of the ledger."""

    def __init__(self, snapshot: Snapshot, account: AccountMetrics, now: datetime) -> None:
        self._snapshot, self._account, self._view, self._now = snapshot, account, account.view, now
        self.attention = self._find_attention()
        """The names of the usage points that need attention."""

    def count_by_site(self, wanted: MeterFilter) -> Mapping[str, int]:
        """Return site -> how many of its meters are wanted."""
        if not wanted:
            return self._snapshot.count_usage_points_by_site(self._view.account)
        rows = self._snapshot.select_usage_points(self._view.account)
        return Counter(row.site for row in rows if self._is_wanted(row, wanted))

    def select(self, wanted: MeterFilter, counts: Mapping[str, int], start: int, stop: int) -> list[MeterSummary]:
        """Return meters `start` to `stop` of those that are wanted, in the order of their sites and titles."""
        sites, before, passed = list[str](), 0, 0
        for site in sorted(counts, key=natural_sort_key):
            if passed >= stop:
                break
            if passed + counts[site] > start:
                sites.append(site)
            else:
                before += counts[site]
            passed += counts[site]
        rows = self._snapshot.select_usage_points_of_sites(self._view.account, sites)
        found = sort_rows(self._view, (row for row in rows if self._is_wanted(row, wanted)))
        return self.read(found[start - before : stop - before])

    def find(self, usage_point: str) -> MeterSummary | None:
        """Return the meter of a usage point, as it is shown."""
        row = find_usage_point(self._snapshot, self._view, usage_point)
        return next(iter(self.read([row] if row else [])), None)

    def read(self, rows: Iterable[UsagePointRow]) -> list[MeterSummary]:
        """Return meters with what they show."""
        rows = list(rows)
        usage_points = [row.usage_point for row in rows]
        month_start = find_month_start(self._now, self._view.zone)
        reader = AccountSampleReader(self._snapshot, replace(self._account.kept_samples.context, month_start=month_start))
        values: dict[str, dict[str, dict[LabelValues, float]]] = defaultdict(lambda: defaultdict(dict))
        monthly_peaks: dict[str, MonthlyPeakHistory] = {}
        for _, name, samples, history in reader.read_usage_points(usage_points):
            for family, labels, value in samples:
                values[name][family].setdefault(labels[2:], value)
            if history:
                monthly_peaks.setdefault(name, history)
        names = [display_name(self._view, row.usage_point) for row in rows]
        return [
            self._build_meter(row, name, values[name], monthly_peaks.get(name)) for row, name in zip(rows, names, strict=True)
        ]

    def _build_meter(self, row: UsagePointRow, name: str, values: Values, history: MonthlyPeakHistory | None) -> MeterSummary:
        title, details = choose_title(self._view, row)
        last_reading = values.get("utility_reading_timestamp_seconds", {}).get(())
        return MeterSummary(
            id=row.usage_point,
            usage_point=name,
            commodity=row.commodity,
            title=title,
            details=details,
            site=clean_label(row.site),
            flags=tuple(text for family, (_, bad, text) in _FLAGS.items() if values.get(family, {}).get(()) == bad),
            last_reading=None if last_reading is None else instant_from_seconds(last_reading),
            stale_after=self._view.stale_after.get(row.commodity, DEFAULT_STALE_AFTER),
            values=values,
            monthly_peaks=[
                ((ended.astimezone(self._view.zone).date() - DAY).replace(day=1), power)
                for ended, power in (history.peaks if history else ())
            ],
        )

    def _is_wanted(self, row: UsagePointRow, wanted: MeterFilter) -> bool:
        if wanted.attention_only and display_name(self._view, row.usage_point) not in self.attention:
            return False
        alias = self._view.aliases.get(row.usage_point, "")
        texts = (row.usage_point, alias, row.commodity, row.meter, row.site, row.name) if wanted.text else ()
        return not wanted.text or wanted.text in "\n".join(texts).casefold()

    def _find_attention(self) -> frozenset[str]:
        facts = self._snapshot.select_usage_points_with_facts(self._view.account, _FLAG_VALUES)
        return frozenset(display_name(self._view, usage_point) for usage_point in facts).union(self._list_stale())

    def _list_stale(self) -> Collection[str]:
        """Return the names of the usage points whose newest reading is too old for their commodity."""
        limits = {one: self._view.stale_after.get(one, DEFAULT_STALE_AFTER) for one in Commodity}
        list_names_before = self._account.kept_samples.list_names_before
        older = {limit: frozenset(list_names_before((self._now - limit).timestamp())) for limit in set(limits.values())}
        oldest = older[min(limits.values())]
        if not oldest or len(older) == 1:
            return oldest
        ids = [find_usage_point_id(self._view, name) for name in oldest]
        names = (
            (display_name(self._view, row.usage_point), row.commodity)
            for row in self._snapshot.select_usage_points(self._view.account, ids)
        )
        return [name for name, commodity in names if name in older[limits[commodity]]]


def sort_rows(view: AccountView, rows: Iterable[UsagePointRow]) -> list[UsagePointRow]:
    """Return usage points in the order of their sites and titles."""
    return sorted(rows, key=lambda row: (natural_sort_key(row.site), natural_sort_key(choose_title(view, row)[0])))


def find_usage_point(snapshot: Snapshot, view: AccountView, shown: str) -> UsagePointRow | None:
    """Return the usage point that is shown by a name."""
    rows = snapshot.select_usage_points(view.account, [find_usage_point_id(view, shown)])
    return next((row for row in rows if display_name(view, row.usage_point) == shown), None)


def find_usage_point_id(view: AccountView, shown: str) -> str:
    """Return the id of a usage point as the ledger has it, for the name that is shown instead."""
    return next((stored for stored, alias in view.aliases.items() if alias == shown), shown)


def choose_title(view: AccountView, row: UsagePointRow) -> tuple[str, tuple[str, ...]]:
    """Return a usage point's title and further details; numbers are shortened unless `show_personal` is set."""
    point, meter, name = display_name(view, row.usage_point), clean_label(row.meter), clean_label(row.name)
    commodity, address = row.commodity, clean_label(row.address) if view.show_personal else ""
    is_alias = row.usage_point in view.aliases
    number, serial = (point, meter) if view.show_personal else (_shorten(point), _shorten(meter))
    is_other = commodity == Commodity.OTHER
    kind = "Meter" if is_other else commodity.capitalize()
    title = point if is_alias else name or f"{kind} {number}"
    details = ["" if is_other or kind in title else kind, name if is_alias else number if name else "", address]
    if meter and serial != _shorten(point):
        details.append(f"meter{NO_BREAK_SPACE}{serial}")
    return title, tuple(text for text in details if text and text != title)


def _shorten(text: str) -> str:
    return text if len(text) <= _VISIBLE_DIGITS + 1 else f"…\u2060{text[-_VISIBLE_DIGITS:]}"


def instant_from_seconds(seconds: float) -> datetime:
    """Return the instant of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)
