"""The live page: the ledger's newest, said in Prometheus's words, from memory."""

import logging
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exporter.ledger import Ledger, Look, Recorded
from exporter.metrics.ages import AGE, INSTANT, STEP
from exporter.metrics.body import Body, Moving
from exporter.metrics.exposition import OPENMETRICS, TEXT, header, negotiate
from exporter.metrics.families import BY_NAME, FAMILIES, Family
from exporter.metrics.health import Health, health_samples
from exporter.metrics.leaves import Derived, derive, renewed
from exporter.metrics.lines import lines
from exporter.metrics.process import Process
from exporter.metrics.words import Labels, Samples, Shown
from exporter.metrics.zipping import zipped

__all__ = [
    "BY_NAME",
    "FAMILIES",
    "OPENMETRICS",
    "STEP",
    "TEXT",
    "AccountPage",
    "Derived",
    "Family",
    "Health",
    "Page",
    "Samples",
    "Shown",
    "negotiate",
]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class AccountPage:
    """One account's part of the page."""

    shown: Shown
    health: Health
    derived: Derived = field(default_factory=Derived)
    counted: tuple[int, int] | None = None
    """The account's readings (thinned ones too) and corrections as of `derived`; None when it must be worked out as a whole."""

    def samples(self, now: datetime) -> Samples:
        """Say everything of the account as of now."""
        samples = self.derived.samples | self.moving(now)
        if instants := samples.get(INSTANT):
            samples[AGE] = {labels: max(int(now.timestamp()) - int(at), 0) for labels, at in instants.items()}
        return samples

    def moving(self, now: datetime) -> Samples:
        """Say what moves with the clock or with every request, but for the ages."""
        samples = defaultdict[str, dict[Labels, float]](dict, health_samples(self.shown, self.health, now))
        for labels, months in self.derived.months.items():
            if average := months.average(now):
                samples["utility_average_monthly_peak_kw"][labels] = average[0]
                samples["utility_average_monthly_peak_months"][labels] = average[1]
        return samples


class Page:
    """All accounts' parts, and what the process says of itself.

    `refresh` reads the ledger and writes the lines that are kept (off the event loop); `body` joins them with what moves.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], version: str) -> None:
        self._ledger, self._clock, self._version = ledger, clock, version
        self.accounts: dict[str, AccountPage] = {}
        self.reload_successful = True
        self.reloaded: datetime | None = None
        self.also: Callable[[], Samples] = dict
        """What else the process says at each scrape."""
        self._process = Process()
        self._bodies: dict[str, Body] = {}
        self._publishing = threading.Lock()

    def add(self, shown: Shown, interval: timedelta) -> AccountPage:
        """Begin (or begin anew) an account's part; where it is shown as before, its lines stay until it is refreshed."""
        before = self.accounts.get(shown.account)
        derived = before.derived if before and before.shown == shown else Derived()
        self.accounts[shown.account] = AccountPage(shown, Health(interval), derived)
        return self.accounts[shown.account]

    def remove(self, account: str) -> None:
        """End an account's part."""
        self.accounts.pop(account, None)

    def refresh(self, account: str, recorded: Recorded | None = None) -> None:
        """Read an account's readings out of the ledger again, or only what a visit has `recorded`.

        Raises LedgerError; the part stays as it was then.
        """
        with self._ledger.look() as look:
            self.refresh_from(look, account, recorded)

    def refresh_from(self, look: Look, account: str, recorded: Recorded | None = None) -> None:
        """Do the same out of a look that is open already."""
        part, state = self.accounts[account], look.state(account)
        before, part.counted = part.counted, None
        # More than was recorded: another process has brought the past home. Only the whole ledger knows what changed then.
        if recorded and before == (state.readings + state.thinned - recorded.new, state.corrections - recorded.corrected):
            derived = renewed(part.derived, look, part.shown, recorded) if recorded.points else part.derived
        else:
            derived = derive(look, part.shown)
        self._publish(part, derived)
        part.counted = state.readings + state.thinned, state.corrections

    def body(self, content_type: str = TEXT, *, gzip: bool = False) -> list[bytes]:
        """Give the page as text or as OpenMetrics, in parts that are to be sent one after the other."""
        now, body, parts = self._clock(), self._body(content_type), list[bytes]()
        moving = self._moving(now)
        for place in body.zipped if gzip else body.text:
            if isinstance(place, bytes):
                parts.append(place)
            elif isinstance(place, Moving):
                text = _moving_text(place.families, moving, content_type)
                parts.append(zipped(text) if gzip else text)
            else:
                parts.append(body.ages.at(int(now.timestamp()), gzip=gzip))
        tail = _moving_text(body.last, moving, content_type) + self._process.text(content_type)
        return [*parts, zipped(tail) if gzip else tail]

    def write_ahead(self) -> None:
        """Write the ages that the next scrapes will be given; takes a tenth of a second for a town, not on the event loop."""
        for body in list(self._bodies.values()):
            body.ages.write(self._second())

    def render(self, content_type: str = TEXT) -> bytes:
        """Render the page as text or as OpenMetrics."""
        return b"".join(self.body(content_type))

    def render_gzip(self, content_type: str = TEXT) -> bytes:
        """Do the same, compressed."""
        return b"".join(self.body(content_type, gzip=True))

    def _body(self, content_type: str) -> Body:
        accounts = self._derived()
        body = self._bodies.get(content_type)
        if body is None or not body.says(accounts):
            body = self._bodies[content_type] = Body(content_type, accounts)
        return body

    def _publish(self, part: AccountPage, derived: Derived) -> None:
        """Show what was derived anew; the bodies are put together here, that no scrape waits for it."""
        with self._publishing:
            accounts = [derived if other is part else other.derived for other in list(self.accounts.values())]
            bodies = {content_type: Body(content_type, accounts) for content_type in list(self._bodies)}
            for content_type, body in bodies.items():
                body.succeed(self._bodies[content_type], self._second())
            self._bodies |= bodies
            part.derived = derived

    def _second(self) -> int:
        return int(self._clock().timestamp())

    def _derived(self) -> list[Derived]:
        return [part.derived for part in list(self.accounts.values())]

    def _moving(self, now: datetime) -> Mapping[str, list[str]]:
        """Give the lines of what moves, by family."""
        samples = [self._itself(), self.also()]
        for account in list(self.accounts.values()):
            try:
                samples.append(account.moving(now))
            except Exception:  # one account's bug must not empty the page of the others
                log.exception("the health of account %s could not be said", account.shown.account)
        found = defaultdict[str, list[str]](list)
        for part in samples:
            for family, values in part.items():
                found[family] += lines(family, values)
        return found

    def _itself(self) -> Samples:
        samples: Samples = {
            "utility_exporter_build_info": {(self._version, platform.python_version()): 1},
            "utility_exporter_config_last_reload_successful": {(): self.reload_successful},
        }
        if self.reloaded:
            samples["utility_exporter_config_last_reload_success_timestamp_seconds"] = {(): self.reloaded.timestamp()}
        return samples


def _moving_text(families: Iterable[str], moving: Mapping[str, list[str]], content_type: str) -> bytes:
    text = bytearray()
    for family in families:
        if found := moving.get(family):
            text += header(family, content_type) + "\n".join([*found, ""]).encode()
    return bytes(text)
