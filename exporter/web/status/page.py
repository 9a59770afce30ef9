"""The status page, for people: every account with its health, every usage point as a meter."""

import gzip
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.config.colour import DEFAULT_COLOUR, Colour
from exporter.errors import LedgerError
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Snapshot
from exporter.metrics.cache import AccountSamples
from exporter.metrics.page import AccountMetrics, MetricsPage
from exporter.models import DAY
from exporter.poller_group import PollerGroup
from exporter.web.status.accounts import (
    PORTAL_NAMES,
    AccountFact,
    HealthSummary,
    HistorySummary,
    QuotaUsage,
    list_account_facts,
    summarize_account,
    summarize_history,
)
from exporter.web.status.formatting import format_duration
from exporter.web.status.meters import MeterList, MeterSummary, find_usage_point_id
from exporter.web.status.tiles import CHART_DAYS, Tile, build_tile
from exporter.web.status.usage import DayUsage, read_day_usage
from exporter.web.status.usage_point import build_usage_point_page, format_csv

if TYPE_CHECKING:
    from exporter.web.status.theme import Theme

__all__ = ["StatusPage", "StatusQuery"]

TILES_PER_PREVIEW, TILES_PER_PAGE = 15, 60
"""Tiles of one account beside others, and on a page of its own."""
QUOTA_CACHE_TIME = timedelta(minutes=1)
REFRESH_INTERVAL = timedelta(minutes=1)
OpenSnapshot = Callable[[], AbstractContextManager[Snapshot]]
"""Opens a snapshot of the ledger; may block, and raise LedgerError."""
CountCalls = Callable[[str, str, datetime], int]
"""Account, quota, since -> calls. May block, and raise LedgerError."""


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """What the URL asks for: one account, a page of it, a search, only meters that need attention."""

    account: str = ""
    page_number: int = 1
    search: str = ""
    attention_only: bool = False
    is_static: bool = False
    """Whether the page must not refresh itself."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "StatusQuery":
        """Parse a query; what is invalid in it is ignored."""
        text = query.get("sheet", "")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
        return cls(query.get("account", ""), max(number, 1), query.get("search", "")[:100], "look" in query, "still" in query)


@dataclass(frozen=True, slots=True)
class AccountSection:
    """One account, as the page shows it."""

    name: str
    portal_name: str
    zone: ZoneInfo
    health: HealthSummary
    facts: Sequence[AccountFact]
    history: HistorySummary | None
    notes: Sequence[str]
    quotas: Sequence[QuotaUsage]
    sites: Sequence[tuple[str, Sequence[Tile]]]
    shown_count: int
    found_count: int
    point_count: int
    attention_count: int
    page_number: int
    page_count: int


class StatusPage:
    """Renders the page from what the metrics page holds; all methods may be called from any thread.

    An account's meters are kept until its readings change or its day ends; a request builds only the tiles it shows.
    """

    def __init__(
        self,
        metrics_page: MetricsPage,
        pollers: PollerGroup,
        clock: Callable[[], datetime],
        *,
        count_calls: CountCalls | None = None,
        version: str = "",
        metrics_path: str = "/metrics",
        open_snapshot: OpenSnapshot | None = None,
    ) -> None:
        self._open_snapshot = open_snapshot
        self._metrics_page, self._pollers, self._clock, self._count_calls = metrics_page, pollers, clock, count_calls
        self._version, self._metrics_path = version, metrics_path.removeprefix("/")
        self._meter_lists: dict[str, tuple[AccountSamples, date, MeterList]] = {}
        self._quota_cache: dict[str, tuple[AccountState, datetime, Sequence[QuotaUsage]]] = {}
        self._lock = threading.Lock()
        self._theme_lock = threading.Lock()
        self.set_meter_colour(Colour.parse(DEFAULT_COLOUR))

    def set_meter_colour(self, colour: Colour) -> None:
        """Set the colour of the meters; in dark mode they are darker."""
        self._colour = colour
        self._theme: Theme | None = None

    @property
    def theme(self) -> "Theme":
        """The templates and style; loaded when the page is first opened, to save memory until then."""
        from exporter.web.status.theme import Theme  # noqa: PLC0415  # its templates cost memory and time at start

        with self._theme_lock:
            if self._theme is None:
                self._theme = Theme(self._colour)
            return self._theme

    def render(self, query: StatusQuery, *, compressed: bool = False) -> bytes:
        """Return the page; takes milliseconds, tens of them after an account with thousands of meters was visited."""
        now = self._clock()
        parts = [part for part in list(self._metrics_page.accounts.values()) if query.account in ("", part.view.account)]
        for removed in self._meter_lists.keys() - self._metrics_page.accounts.keys():
            self._meter_lists.pop(removed, None)
        sections = [self._build_section(part, query, now, alone=bool(query.account)) for part in parts]
        theme = self.theme
        html = theme.page_template.render(
            query=query,
            sections=sections,
            failing=[section for section in sections if section.health.level == "bad"],
            has_many_accounts=len(self._metrics_page.accounts) > 1,
            now=now,
            reload_successful=self._metrics_page.last_reload_successful,
            reloaded=self._metrics_page.last_reload,
            version=self._version,
            metrics_path=self._metrics_path,
            stylesheet_version=theme.stylesheet_version,
            refresh=int(REFRESH_INTERVAL.total_seconds()),
        ).encode()
        return gzip.compress(html, compresslevel=6, mtime=0) if compressed else html

    def render_usage_point(self, account: str, usage_point: str) -> bytes | None:
        """Return the page of a usage point, None for one that is not known; raise LedgerError."""
        found = self._find_meter(account, usage_point)
        if found is None or self._open_snapshot is None:
            return None
        now, (meters, meter) = self._clock(), found
        with self._open_snapshot() as snapshot:
            page = build_usage_point_page(snapshot, meters, meter, now)
        theme = self.theme
        return theme.usage_point_template.render(
            page=page, now=now, zone=meters.view.zone, version=self._version, stylesheet_version=theme.stylesheet_version
        ).encode()

    def render_csv(self, account: str, usage_point: str, period: str) -> bytes | None:
        """Return days or months as CSV, of all usage points where none is named; None for an unknown one; raise LedgerError."""
        part = self._metrics_page.accounts.get(account)
        if part is None or self._open_snapshot is None or (usage_point and self._find_meter(account, usage_point) is None):
            return None
        meters = self._get_meter_list(part, self._clock())
        names = {meter.usage_point: meter.title for meter in meters.meters}
        with self._open_snapshot() as snapshot:
            chosen = [find_usage_point_id(part.view, usage_point)] if usage_point else None
            return format_csv(snapshot, part.view, names, chosen, period).encode()

    def _find_meter(self, account: str, usage_point: str) -> tuple[MeterList, MeterSummary] | None:
        part = self._metrics_page.accounts.get(account)
        if part is None:
            return None
        meters = self._get_meter_list(part, self._clock())
        meter = next((meter for meter in meters.meters if meter.usage_point == usage_point), None)
        return (meters, meter) if meter else None

    def _build_section(self, account: AccountMetrics, query: StatusQuery, now: datetime, *, alone: bool) -> AccountSection:
        meters, word = self._get_meter_list(account, now), query.search.casefold().strip()
        attention_count = sum(meter.needs_attention(now) for meter in meters.meters)
        found = [
            meter
            for meter in meters.meters
            if word in meter.search_text and (not query.attention_only or meter.needs_attention(now))
        ]
        limit = TILES_PER_PAGE if alone else TILES_PER_PREVIEW
        page_count = max(1, -(-len(found) // limit))
        page_number = min(query.page_number, page_count) if alone else 1
        shown = found[(page_number - 1) * limit : page_number * limit]
        usages = self._read_usages(account, shown, now)
        return AccountSection(
            name=account.view.account,
            portal_name=PORTAL_NAMES.get(account.view.portal, account.view.portal),
            zone=account.view.zone,
            health=summarize_account(account, now),
            facts=list_account_facts(account, now),
            history=summarize_history(account, now),
            notes=(*account.health.state.notes, *account.health.shape_notes),
            quotas=self._read_quotas(account, now),
            sites=[
                (site, [build_tile(meters, meter, usages.get(meter.usage_point, ())) for meter in group])
                for site, group in groupby(shown, key=lambda meter: meter.site)
            ],
            shown_count=len(shown),
            found_count=len(found),
            point_count=len(meters.meters),
            attention_count=attention_count,
            page_number=page_number,
            page_count=page_count if alone else 1,
        )

    def _read_usages(
        self, account: AccountMetrics, meters: Sequence[MeterSummary], now: datetime
    ) -> Mapping[str, Sequence[DayUsage]]:
        """Return the days that the tiles of these meters show, by usage point as it is shown."""
        if self._open_snapshot is None or not meters:
            return {}
        view, today = account.view, now.astimezone(account.view.zone).date()
        ids = {meter.usage_point: find_usage_point_id(view, meter.usage_point) for meter in meters}
        recent, month = today - timedelta(days=CHART_DAYS + 1), (today - DAY).replace(day=1)
        first = min(recent, month)
        past = month.replace(year=month.year - 1), (month + timedelta(days=31)).replace(year=month.year - 1)
        try:
            with self._open_snapshot() as snapshot:
                found = read_day_usage(snapshot, view.account, view.zone, list(ids.values()), [(first, today), past])
        except LedgerError:
            return {}
        return {shown: found.get(stored, ()) for shown, stored in ids.items()}

    def _get_meter_list(self, account: AccountMetrics, now: datetime) -> MeterList:
        name, samples, today = account.view.account, account.kept_samples, now.astimezone(account.view.zone).date()
        with self._lock:
            cached = self._meter_lists.get(name)
            if cached is None or cached[0] is not samples or cached[1] != today:
                self._meter_lists[name] = cached = samples, today, MeterList(account, now)
            return cached[2]

    def _read_quotas(self, account: AccountMetrics, now: datetime) -> Sequence[QuotaUsage]:
        name, state, poller = account.view.account, account.health.state, self._pollers.get(account.view.account)
        cached = self._quota_cache.get(name)
        if cached and cached[0] is state and timedelta(0) <= now - cached[1] < QUOTA_CACHE_TIME:
            return cached[2]
        if poller is None or self._count_calls is None:
            return ()
        try:
            quotas = [
                QuotaUsage(quota, self._count_calls(name, quota, now - period), limit, format_duration(period))
                for quota, (limit, period) in poller.portal.quotas().items()
            ]
        except LedgerError:
            return ()
        self._quota_cache[name] = state, now, quotas
        return quotas
