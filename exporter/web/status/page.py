"""The status page, for people: every account with its health, every usage point as a meter."""

import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.account_status import AccountView
from exporter.config.settings import DEFAULT_COLOUR, Colour
from exporter.errors import LedgerError
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Snapshot
from exporter.metrics.cache import AccountMetrics, MetricsPage
from exporter.models import DAY
from exporter.poller_group import PollerGroup
from exporter.web.status.accounts import (
    PORTAL_NAMES,
    WAITS,
    AccountFact,
    HealthSummary,
    HistorySummary,
    QuotaUsage,
    list_account_facts,
    summarize_account,
    summarize_history,
)
from exporter.web.status.formatting import PageClock, format_age, format_count, format_duration
from exporter.web.status.meters import MeterFilter, MeterReader, MeterSummary, OpenSnapshot, find_usage_point, sort_rows
from exporter.web.status.tiles import CHART_DAYS, Tile, build_tile
from exporter.web.status.usage import DayUsage, iterate_csv, last_of_month, read_day_usage
from exporter.web.status.usage_point import build_usage_point_page

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["StatusPage", "StatusQuery"]

TILES_PER_PREVIEW, TILES_PER_PAGE = 15, 60
"""Tiles of one account beside others, and on a page of its own."""
QUOTA_CACHE_TIME = timedelta(minutes=1)
REFRESH_INTERVAL = timedelta(minutes=1)
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
    health: HealthSummary
    facts: Sequence[AccountFact]
    history: HistorySummary | None
    notes: Sequence[str]
    quotas: Sequence[QuotaUsage]
    meters: "MeterSelection"


@dataclass(frozen=True, slots=True)
class MeterSelection:
    """The meters of an account that a page shows, and how many others there are."""

    sites: Sequence[tuple[str, Sequence[Tile]]] = ()
    shown_count: int = 0
    found_count: int = 0
    point_count: int = 0
    attention_count: int = 0
    page_number: int = 1
    page_count: int = 1
    failure: str = ""
    """Why the ledger cannot be read."""


class Theme:
    """The page's templates, and style and icon in the colour of the meters."""

    def __init__(self, colour: Colour) -> None:
        templates, dark = _make_environment(), colour.darken(0.28)
        colours = {"meter": colour, "meter_text": colour.text_colour(), "dark_meter": dark, "dark_meter_text": dark.text_colour()}
        self.page_template = templates.get_template("page.html")
        self.usage_point_template = templates.get_template("usage_point.html")
        self.stylesheet, self.icon = (templates.get_template(name).render(colours).encode() for name in ("style.css", "icon.svg"))
        self.stylesheet_version = hashlib.sha256(self.stylesheet).hexdigest()[:12]
        """Changes with the style, and stands in its URL."""


class StatusPage:
    """Renders the pages from the ledger and the accounts' health; all methods may be called from any thread.

    Nothing is kept between requests but the templates.
    """

    def __init__(
        self,
        metrics_page: MetricsPage,
        pollers: PollerGroup,
        clock: Callable[[], datetime],
        open_snapshot: OpenSnapshot,
        *,
        count_calls: CountCalls | None = None,
        version: str = "",
        metrics_path: str = "/metrics",
    ) -> None:
        self._open_snapshot = open_snapshot
        self._metrics_page, self._pollers, self._clock, self._count_calls = metrics_page, pollers, clock, count_calls
        self._version, self._metrics_path = version, metrics_path.removeprefix("/")
        self._quota_cache: dict[str, tuple[AccountState, datetime, Sequence[QuotaUsage]]] = {}
        self._theme_lock = threading.Lock()
        self.set_meter_colour(Colour.parse(DEFAULT_COLOUR))

    def set_meter_colour(self, colour: Colour) -> None:
        """Set the colour of the meters; in dark mode they are darker."""
        self._colour = colour
        self._theme: Theme | None = None

    @property
    def theme(self) -> Theme:
        """The templates and style; loaded when the page is first opened, to save memory until then."""
        with self._theme_lock:
            if self._theme is None:
                self._theme = Theme(self._colour)
            return self._theme

    def render(self, query: StatusQuery, *, compressed: bool = False) -> bytes:
        """Return the page; takes tens of milliseconds, and some more with 100,000 usage points."""
        parts = [part for part in list(self._metrics_page.accounts.values()) if query.account in ("", part.view.account)]
        missing = "" if parts else "There is no such account." if query.account else "No account yet."
        html = self._render_accounts(query, parts, missing)
        return gzip.compress(html, compresslevel=6, mtime=0) if compressed else html

    def render_missing(self) -> bytes:
        """Return the page that says that a usage point is not known."""
        return self._render_accounts(StatusQuery(is_static=True), (), "There is no such usage point.")

    def _render_accounts(self, query: StatusQuery, parts: Sequence[AccountMetrics], missing: str) -> bytes:
        now = self._clock()
        clock = PageClock(now, _choose_zone(self._metrics_page.accounts.values()))
        sections = [self._build_section(part, query, clock, alone=bool(query.account)) for part in parts]
        theme = self.theme
        return theme.page_template.render(
            query=query,
            missing=missing,
            sections=sections,
            failing=[section for section in sections if section.health.level == "bad"],
            waits=sorted({section.health.waits_for for section in sections if section.health.waits_for}, key=WAITS.index),
            has_many_accounts=len(self._metrics_page.accounts) > 1,
            clock=clock,
            reload_successful=self._metrics_page.reload_status.is_successful,
            reloaded=self._metrics_page.reload_status.last_success,
            version=self._version,
            metrics_path=self._metrics_path,
            stylesheet_version=theme.stylesheet_version,
            refresh=int(REFRESH_INTERVAL.total_seconds()),
        ).encode()

    def render_usage_point(self, account: str, usage_point: str) -> bytes | None:
        """Return the page of a usage point, None for one that is not known; raise LedgerError."""
        part = self._metrics_page.accounts.get(account)
        if part is None:
            return None
        clock = PageClock(self._clock(), part.view.zone)
        with self._open_snapshot() as snapshot:
            meter = MeterReader(snapshot, part, clock.now).find(usage_point)
            if meter is None:
                return None
            page = build_usage_point_page(snapshot, part.view, meter, clock)
        theme = self.theme
        return theme.usage_point_template.render(
            page=page, clock=clock, version=self._version, stylesheet_version=theme.stylesheet_version
        ).encode()

    def start_csv(self, account: str, usage_point: str, period: str) -> Iterator[bytes] | None:
        """Return days or months as CSV, of all usage points where none is named; None for an unknown one.

        It and its result block, and raise LedgerError.
        """
        part = self._metrics_page.accounts.get(account)
        if part is None:
            return None
        with self._open_snapshot() as snapshot:
            if usage_point:
                row = find_usage_point(snapshot, part.view, usage_point)
                rows = [row] if row else []
            else:
                rows = sort_rows(part.view, snapshot.select_usage_points(account))
        if usage_point and not rows:
            return None
        today = self._clock().astimezone(part.view.zone).date()
        return iterate_csv(self._open_snapshot, part.view, rows, period, today)

    def _build_section(self, account: AccountMetrics, query: StatusQuery, clock: PageClock, *, alone: bool) -> AccountSection:
        limit = TILES_PER_PAGE if alone else TILES_PER_PREVIEW
        try:
            with self._open_snapshot() as snapshot:
                meters = _read_meters(snapshot, account, query, clock, limit, alone=alone)
        except LedgerError as error:
            meters = MeterSelection(failure=str(error))
        return AccountSection(
            name=account.view.account,
            portal_name=PORTAL_NAMES.get(account.view.portal, account.view.portal),
            health=summarize_account(account, clock),
            facts=list_account_facts(account, clock),
            history=summarize_history(account, clock.now),
            notes=(*account.health.state.notes, *account.health.shape_notes),
            quotas=self._read_quotas(account, clock.now),
            meters=meters,
        )

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
                for quota, (limit, period) in poller.portal.list_quotas().items()
            ]
        except LedgerError:
            return ()
        self._quota_cache[name] = state, now, quotas
        return quotas


def _make_environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # it costs memory and time at start

    environment = Environment(
        loader=PackageLoader("exporter.web.status"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"format_count": format_count}
    environment.globals |= {"format_age": format_age}
    return environment


def _choose_zone(accounts: Iterable[AccountMetrics]) -> tzinfo:
    """Return the time zone of most accounts, for all instants on the page."""
    zones = Counter(account.view.zone for account in list(accounts)).most_common(1)
    return zones[0][0] if zones else UTC


def _read_meters(
    snapshot: Snapshot, account: AccountMetrics, query: StatusQuery, clock: PageClock, limit: int, *, alone: bool
) -> MeterSelection:
    view, reader = account.view, MeterReader(snapshot, account, clock.now)
    wanted = MeterFilter(query.search.casefold().strip(), query.attention_only)
    counts = reader.count_by_site(wanted)
    point_count = sum((reader.count_by_site(MeterFilter()) if wanted else counts).values())
    found_count = sum(counts.values())
    page_count = max(1, -(-found_count // limit)) if alone else 1
    page_number = min(query.page_number, page_count)
    shown = reader.select(wanted, counts, (page_number - 1) * limit, page_number * limit)
    usages = _read_usages(snapshot, view, shown, clock.now)
    return MeterSelection(
        sites=[
            (site, [build_tile(meter, clock, view.zone, usages.get(meter.id, ())) for meter in group])
            for site, group in groupby(shown, key=lambda meter: meter.site)
        ],
        shown_count=len(shown),
        found_count=found_count,
        point_count=point_count,
        attention_count=len(reader.attention),
        page_number=page_number,
        page_count=page_count,
    )


def _read_usages(
    snapshot: Snapshot, view: AccountView, meters: Sequence[MeterSummary], now: datetime
) -> Mapping[str, Sequence[DayUsage]]:
    """Return the days that the tiles of these meters show, by the ids of their usage points."""
    if not meters:
        return {}
    today = now.astimezone(view.zone).date()
    recent, month = today - timedelta(days=CHART_DAYS + 1), (today - DAY).replace(day=1)
    before = month.replace(year=month.year - 1)
    past = before, last_of_month(before)
    return read_day_usage(snapshot, view.account, view.zone, [meter.id for meter in meters], [(min(recent, month), today), past])
