"""The page's body, put together out of what is kept and what moves with the clock, as text and as gzip."""

import logging
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import is_

from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.cache import (
    AGE_FAMILY,
    AGE_STEP,
    TIMESTAMP_FAMILY,
    AccountSamples,
    RenderedAges,
    build_samples,
    update_samples,
)
from exporter.metrics.exposition import OPENMETRICS, TEXT, compress_member, format_lines, negotiate, render_header
from exporter.metrics.families import (
    DYNAMIC_FAMILIES,
    FAMILIES,
    FAMILIES_BY_NAME,
    AccountView,
    LabelValues,
    MetricFamily,
    Samples,
)
from exporter.metrics.health import AccountHealth, build_health_samples
from exporter.metrics.process import ProcessMetrics


@dataclass(frozen=True, slots=True)
class StaticPart:
    """A part that is kept, as text and as a gzip member."""

    text: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class DynamicFamilies:
    """The place of families that are written when somebody asks."""

    families: tuple[str, ...]


class AgesSlot:
    """The place of the ages."""


PageParts = list[bytes | DynamicFamilies | AgesSlot]


class PageBody:
    """A page's kept parts in the order of the families; a family's lines stand together, whatever the account."""

    def __init__(self, content_type: str, accounts: Sequence[AccountSamples]) -> None:
        self._accounts = accounts
        *parts, last = _build_parts(content_type, accounts)
        assert isinstance(last, DynamicFamilies)
        self.tail_families = last.families
        """What stands at the end of the page is written when somebody asks."""
        self.text: PageParts = [part.text if isinstance(part, StaticPart) else part for part in parts]
        self.compressed: PageParts = list(_join_static(parts))
        """The same compressed; what stands together is one piece, which costs a scrape less than many small ones."""
        self.ages = RenderedAges(
            render_header(AGE_FAMILY, content_type), (leaf.ages for account in accounts for leaf in account.blocks)
        )

    def is_current(self, accounts: Sequence[AccountSamples]) -> bool:
        """Tell whether these are the accounts it was put together of, as they are now."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def inherit_requests(self, previous: "PageBody", now: int) -> None:
        """Be ready for whoever asked the body before."""
        self.ages.last_requests |= previous.ages.last_requests
        self.ages.render_ahead(now, [0])


def _join_static(parts: Iterable[StaticPart | DynamicFamilies | AgesSlot]) -> Iterator[bytes | DynamicFamilies | AgesSlot]:
    for kind, run in groupby(parts, type):
        if kind is StaticPart:
            yield b"".join(part.compressed for part in run if isinstance(part, StaticPart))
        else:
            yield from (part for part in run if not isinstance(part, StaticPart))


def _build_parts(content_type: str, accounts: Sequence[AccountSamples]) -> Iterator[StaticPart | DynamicFamilies | AgesSlot]:
    """Give the parts in their order; the last one is `Moving`."""
    small, moving = bytearray(), list[str]()
    for family in FAMILIES:
        sheets = [sheet for account in accounts for sheet in account.lines_by_family.get(family.name, ())]
        if family.name in DYNAMIC_FAMILIES and family.name != AGE_FAMILY:
            yield from _flush_static(small)
            moving.append(family.name)
            continue
        if moving and (sheets or family.name == AGE_FAMILY):
            yield DynamicFamilies(tuple(moving))
            moving.clear()
        if family.name == AGE_FAMILY:
            yield from _flush_static(small)
            yield AgesSlot()
        small += render_header(family.name, content_type) if sheets else b""
        for sheet in sheets:
            if sheet.compressed is None:
                small += sheet.text
            else:
                yield from _flush_static(small)
                yield StaticPart(sheet.text, sheet.compressed)
    yield from _flush_static(small)
    yield DynamicFamilies(tuple(moving))


def _flush_static(buffer: bytearray) -> Iterator[StaticPart]:
    if buffer:
        text = bytes(buffer)
        buffer.clear()
        yield StaticPart(text, compress_member(text))


__all__ = [
    "AGE_STEP",
    "FAMILIES",
    "FAMILIES_BY_NAME",
    "OPENMETRICS",
    "TEXT",
    "AccountHealth",
    "AccountMetrics",
    "AccountSamples",
    "AccountView",
    "MetricFamily",
    "MetricsPage",
    "Samples",
    "negotiate",
]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class AccountMetrics:
    """One account's part of the page."""

    view: AccountView
    health: AccountHealth
    kept_samples: AccountSamples = field(default_factory=AccountSamples)
    ledger_counts: tuple[int, int] | None = None
    """The account's readings (thinned ones too) and corrections as of `derived`; None when it must be worked out as a whole."""

    def collect(self, now: datetime) -> Samples:
        """Say everything of the account as of now."""
        samples = self.kept_samples.samples | self.collect_dynamic(now)
        if instants := samples.get(TIMESTAMP_FAMILY):
            samples[AGE_FAMILY] = {labels: max(int(now.timestamp()) - int(at), 0) for labels, at in instants.items()}
        return samples

    def collect_dynamic(self, now: datetime) -> Samples:
        """Say what moves with the clock or with every request, but for the ages."""
        samples = defaultdict[str, dict[LabelValues, float]](dict, build_health_samples(self.view, self.health, now))
        for labels, months in self.kept_samples.monthly_peaks.items():
            if average := months.average_closed(now):
                samples["utility_average_monthly_peak_kw"][labels] = average[0]
                samples["utility_average_monthly_peak_months"][labels] = average[1]
        return samples


class MetricsPage:
    """All accounts' parts, and what the process says of itself.

    `refresh` reads the ledger and writes the lines that are kept (off the event loop); `body` joins them with what moves.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], version: str) -> None:
        self._ledger, self._clock, self._version = ledger, clock, version
        self.accounts: dict[str, AccountMetrics] = {}
        self.last_reload_successful = True
        self.last_reload: datetime | None = None
        self.collect_extra: Callable[[], Samples] = dict
        """What else the process says at each scrape."""
        self._process_metrics = ProcessMetrics()
        self._bodies: dict[str, PageBody] = {}
        self._replace_lock = threading.Lock()

    def add_account(self, view: AccountView, interval: timedelta) -> AccountMetrics:
        """Begin (or begin anew) an account's part; where it is shown as before, its lines stay until it is refreshed."""
        before = self.accounts.get(view.account)
        derived = before.kept_samples if before and before.view == view else AccountSamples()
        self.accounts[view.account] = AccountMetrics(view, AccountHealth(interval), derived)
        return self.accounts[view.account]

    def remove_account(self, account: str) -> None:
        """End an account's part."""
        self.accounts.pop(account, None)

    def refresh(self, account: str, changes: LedgerChanges | None = None) -> None:
        """Read an account's readings out of the ledger again, or only what a visit has `recorded`.

        Raises LedgerError; the part stays as it was then.
        """
        with self._ledger.snapshot() as look:
            self.refresh_from_snapshot(look, account, changes)

    def refresh_from_snapshot(self, snapshot: Snapshot, account: str, changes: LedgerChanges | None = None) -> None:
        """Do the same out of a look that is open already."""
        part, state = self.accounts[account], snapshot.get_state(account)
        before, part.ledger_counts = part.ledger_counts, None
        # More than was recorded: another process has brought the past home. Only the whole ledger knows what changed then.
        if changes and before == (state.readings + state.thinned - changes.new, state.corrections - changes.corrected):
            derived = (
                update_samples(part.kept_samples, snapshot, part.view, changes) if changes.usage_points else part.kept_samples
            )
        else:
            derived = build_samples(snapshot, part.view)
        self._replace_samples(part, derived)
        part.ledger_counts = state.readings + state.thinned, state.corrections

    def render_parts(self, content_type: str = TEXT, *, compress: bool = False) -> list[bytes]:
        """Give the page as text or as OpenMetrics, in parts that are to be sent one after the other."""
        now, body, parts = self._clock(), self._get_body(content_type), list[bytes]()
        moving = self._render_dynamic(now)
        for place in body.compressed if compress else body.text:
            if isinstance(place, bytes):
                parts.append(place)
            elif isinstance(place, DynamicFamilies):
                text = _join_families(place.families, moving, content_type)
                parts.append(compress_member(text) if compress else text)
            else:
                parts.append(body.ages.render(int(now.timestamp()), gzip=compress))
        tail = _join_families(body.tail_families, moving, content_type) + self._process_metrics.render(content_type)
        return [*parts, compress_member(tail) if compress else tail]

    def render_ages_ahead(self) -> None:
        """Write the ages that the next scrapes will be given; takes a tenth of a second for a town, not on the event loop."""
        for body in list(self._bodies.values()):
            body.ages.render_ahead(self._now_seconds())

    def render(self, content_type: str = TEXT) -> bytes:
        """Render the page as text or as OpenMetrics."""
        return b"".join(self.render_parts(content_type))

    def render_gzip(self, content_type: str = TEXT) -> bytes:
        """Do the same, compressed."""
        return b"".join(self.render_parts(content_type, compress=True))

    def _get_body(self, content_type: str) -> PageBody:
        accounts = self._collect_kept()
        body = self._bodies.get(content_type)
        if body is None or not body.is_current(accounts):
            body = self._bodies[content_type] = PageBody(content_type, accounts)
        return body

    def _replace_samples(self, account: AccountMetrics, samples: AccountSamples) -> None:
        """Show what was derived anew; the bodies are put together here, that no scrape waits for it."""
        with self._replace_lock:
            accounts = [samples if other is account else other.kept_samples for other in list(self.accounts.values())]
            bodies = {content_type: PageBody(content_type, accounts) for content_type in list(self._bodies)}
            for content_type, body in bodies.items():
                body.inherit_requests(self._bodies[content_type], self._now_seconds())
            self._bodies |= bodies
            account.kept_samples = samples

    def _now_seconds(self) -> int:
        return int(self._clock().timestamp())

    def _collect_kept(self) -> list[AccountSamples]:
        return [part.kept_samples for part in list(self.accounts.values())]

    def _render_dynamic(self, now: datetime) -> Mapping[str, list[str]]:
        """Give the lines of what moves, by family."""
        samples = [self._exporter_samples(), self.collect_extra()]
        for account in list(self.accounts.values()):
            try:
                samples.append(account.collect_dynamic(now))
            except Exception:  # one account's bug must not empty the page of the others
                log.exception("the health of account %s could not be said", account.view.account)
        found = defaultdict[str, list[str]](list)
        for part in samples:
            for family, values in part.items():
                found[family] += format_lines(family, values)
        return found

    def _exporter_samples(self) -> Samples:
        samples: Samples = {
            "utility_exporter_build_info": {(self._version, platform.python_version()): 1},
            "utility_exporter_config_last_reload_successful": {(): self.last_reload_successful},
        }
        if self.last_reload:
            samples["utility_exporter_config_last_reload_success_timestamp_seconds"] = {(): self.last_reload.timestamp()}
        return samples


def _join_families(families: Iterable[str], lines_by_family: Mapping[str, list[str]], content_type: str) -> bytes:
    text = bytearray()
    for family in families:
        if found := lines_by_family.get(family):
            text += render_header(family, content_type) + "\n".join([*found, ""]).encode()
    return bytes(text)
