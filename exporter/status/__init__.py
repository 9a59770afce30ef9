"""The status page, for people: every account with its health, every usage point as the face of a meter."""

import gzip
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.colour import LINKY, Colour
from exporter.errors import LedgerError
from exporter.ledger import AccountState
from exporter.metrics import AccountPage, Derived, Page
from exporter.poller import Pollers
from exporter.status.accounts import Budget, Fact, facts, fare
from exporter.status.meters import Shelf
from exporter.status.tiles import Tile, tile
from exporter.status.words import Said, length

if TYPE_CHECKING:
    from exporter.status.dress import Dress

__all__ = ["Asked", "Status"]

PREVIEW, SHEET = 15, 60
"""Tiles of one account beside others, and on a sheet of its own."""
BUDGETS_KEPT = timedelta(minutes=1)
REFRESH = timedelta(minutes=1)
Spent = Callable[[str, str, datetime], int]
"""Account, budget, since -> calls. May block, and raise LedgerError."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for: one account, a sheet of it, a word to look for, only what wants a look."""

    account: str = ""
    sheet: int = 1
    search: str = ""
    look: bool = False
    still: bool = False
    """Whether the page must not refresh itself."""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        """Read a query; what is strange in it is passed over."""
        sheet = query.get("sheet", "")
        number = int(sheet) if sheet.isascii() and sheet.isdecimal() and len(sheet) < 7 else 1
        return cls(query.get("account", ""), max(number, 1), query.get("search", "")[:100], "look" in query, "still" in query)


@dataclass(frozen=True, slots=True)
class Block:
    """One account, as the page shows it."""

    name: str
    portal: str
    zone: ZoneInfo
    said: Said
    facts: Sequence[Fact]
    notes: Sequence[str]
    budgets: Sequence[Budget]
    sites: Sequence[tuple[str, Sequence[Tile]]]
    shown: int
    found: int
    points: int
    looks: int
    sheet: int
    sheets: int


class Status:
    """Makes the page out of what the live page holds; all methods may be called from any thread.

    An account's meters are kept until its readings change or its day ends; a request makes only the tiles it shows.
    """

    def __init__(
        self, page: Page, pollers: Pollers, clock: Callable[[], datetime], *, spent: Spent | None = None,
        version: str = "", metrics: str = "/metrics",
    ) -> None:  # fmt: skip
        self._page, self._pollers, self._clock, self._spent = page, pollers, clock, spent
        self._version, self._metrics = version, metrics.removeprefix("/")
        self._kept: dict[str, tuple[Derived, date, Shelf]] = {}
        self._budgets: dict[str, tuple[AccountState, datetime, Sequence[Budget]]] = {}
        self._lock = threading.Lock()
        self._dressing = threading.Lock()
        self.paint(Colour.parse(LINKY))

    def paint(self, face: Colour) -> None:
        """Give the meters' faces a colour; a darker one where it is dark."""
        self._face = face
        self._dress: Dress | None = None

    @property
    def dress(self) -> "Dress":
        """How the page looks; made when somebody comes to look, for most of the time nobody does."""
        from exporter.status.dress import Dress  # noqa: PLC0415  # its templates take room and a start's time

        with self._dressing:
            if self._dress is None:
                self._dress = Dress(self._face)
            return self._dress

    def render(self, asked: Asked, *, zipped: bool = False) -> bytes:
        """Make the page; takes milliseconds, tens of them after an account with thousands of meters was visited."""
        now = self._clock()
        parts = [part for part in list(self._page.accounts.values()) if asked.account in ("", part.shown.account)]
        for gone in self._kept.keys() - self._page.accounts.keys():
            self._kept.pop(gone, None)
        blocks = [self._block(part, asked, now, alone=bool(asked.account)) for part in parts]
        dress = self.dress
        made = dress.page.render(
            asked=asked,
            blocks=blocks,
            bad=[block for block in blocks if block.said.kind == "bad"],
            one_of_many=len(self._page.accounts) > 1,
            now=now,
            reload_successful=self._page.reload_successful,
            reloaded=self._page.reloaded,
            version=self._version,
            metrics=self._metrics,
            styled=dress.styled,
            refresh=int(REFRESH.total_seconds()),
        ).encode()
        return gzip.compress(made, compresslevel=6, mtime=0) if zipped else made

    def _block(self, part: AccountPage, asked: Asked, now: datetime, *, alone: bool) -> Block:
        shelf, word = self._shelf(part, now), asked.search.casefold().strip()
        looks = sum(meter.wants_a_look(now) for meter in shelf.meters)
        found = [one for one in shelf.meters if word in one.found_by and (not asked.look or one.wants_a_look(now))]
        most = SHEET if alone else PREVIEW
        sheets = max(1, -(-len(found) // most))
        sheet = min(asked.sheet, sheets) if alone else 1
        shown = found[(sheet - 1) * most : sheet * most]
        return Block(
            name=part.shown.account,
            portal=part.shown.portal,
            zone=part.shown.zone,
            said=fare(part, now),
            facts=facts(part, now),
            notes=part.health.state.notes,
            budgets=self._budgets_of(part, now),
            sites=[(site, [tile(shelf, one) for one in those]) for site, those in groupby(shown, key=lambda one: one.site)],
            shown=len(shown),
            found=len(found),
            points=len(shelf.meters),
            looks=looks,
            sheet=sheet,
            sheets=sheets if alone else 1,
        )

    def _shelf(self, part: AccountPage, now: datetime) -> Shelf:
        name, derived, today = part.shown.account, part.derived, now.astimezone(part.shown.zone).date()
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or kept[0] is not derived or kept[1] != today:
                self._kept[name] = kept = derived, today, Shelf(part, now)
            return kept[2]

    def _budgets_of(self, part: AccountPage, now: datetime) -> Sequence[Budget]:
        name, state, poller = part.shown.account, part.health.state, self._pollers.of(part.shown.account)
        kept = self._budgets.get(name)
        if kept and kept[0] is state and timedelta(0) <= now - kept[1] < BUDGETS_KEPT:
            return kept[2]
        if poller is None or self._spent is None:
            return ()
        try:
            budgets = [
                Budget(budget, self._spent(name, budget, now - span), most, length(span))
                for budget, (most, span) in poller.portal.budgets().items()
            ]
        except LedgerError:
            return ()
        self._budgets[name] = state, now, budgets
        return budgets
