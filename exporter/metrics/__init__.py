"""The live page: the ledger's newest, said in Prometheus's words, from memory."""

import gzip
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exporter.ledger import Ledger, Look
from exporter.metrics.derive import Derived, Samples, Shown, derive
from exporter.metrics.exposition import OPENMETRICS, TEXT, negotiate, registry, render
from exporter.metrics.families import BY_NAME, FAMILIES, Family
from exporter.metrics.health import Health, health_samples

__all__ = [
    "BY_NAME",
    "FAMILIES",
    "OPENMETRICS",
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
    derived: Derived = field(default_factory=lambda: Derived({}, {}))

    def samples(self, now: datetime) -> Samples:
        """Say everything of the account as of now."""
        samples = self.derived.samples | health_samples(self.shown, self.health, now)
        instants = self.derived.samples.get("utility_reading_timestamp_seconds", {})
        samples["utility_reading_age_seconds"] = {labels: now.timestamp() - at for labels, at in instants.items()}
        for labels, months in self.derived.months.items():
            if average := months.average(now):
                samples.setdefault("utility_average_monthly_peak_kw", {})[labels] = average[0]
                samples.setdefault("utility_average_monthly_peak_months", {})[labels] = average[1]
        return samples


class Page:
    """All accounts' parts, and what the process says of itself.

    `refresh` reads the ledger (off the event loop); `render` does not.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], version: str) -> None:
        self._ledger, self._clock, self._version = ledger, clock, version
        self.accounts: dict[str, AccountPage] = {}
        self.reload_successful = True
        self.reloaded: datetime | None = None
        self._registry = registry(self._samples)

    def add(self, shown: Shown, interval: timedelta) -> AccountPage:
        """Begin (or begin anew) an account's part."""
        self.accounts[shown.account] = AccountPage(shown, Health(interval))
        return self.accounts[shown.account]

    def remove(self, account: str) -> None:
        """End an account's part."""
        self.accounts.pop(account, None)

    def refresh(self, account: str) -> None:
        """Read an account's readings out of the ledger again. Raises LedgerError; the part stays as it was then."""
        with self._ledger.look() as look:
            self.refresh_from(look, account)

    def refresh_from(self, look: Look, account: str) -> None:
        """Do the same out of a look that is open already."""
        part = self.accounts[account]
        part.derived = derive(look, part.shown)

    def render(self, content_type: str = TEXT) -> bytes:
        """Render the page as text or as OpenMetrics."""
        return render(self._registry, content_type)

    def render_gzip(self, content_type: str = TEXT) -> bytes:
        """Do the same, compressed."""
        return gzip.compress(self.render(content_type), compresslevel=6, mtime=0)

    def _samples(self) -> list[Samples]:
        now = self._clock()
        return [*(part for account in list(self.accounts.values()) if (part := self._safe(account, now))), self._process()]

    def _safe(self, account: AccountPage, now: datetime) -> Samples | None:
        try:
            return account.samples(now)
        except Exception:  # one account's bug must not empty the page of the others
            log.exception("the page of account %s could not be made", account.shown.account)
            return None

    def _process(self) -> Samples:
        samples: Samples = {
            "utility_exporter_build_info": {(self._version, platform.python_version()): 1},
            "utility_exporter_config_last_reload_successful": {(): self.reload_successful},
        }
        if self.reloaded:
            samples["utility_exporter_config_last_reload_success_timestamp_seconds"] = {(): self.reloaded.timestamp()}
        return samples
