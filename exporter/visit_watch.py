"""What is kept of an account's visits for reports: the recording of the last failed one, and changes of the responses' shape."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from exporter.errors import LedgerError, PortalError
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.recording.last_failure import FailureRecordings
from exporter.recording.recorder import Recorder
from exporter.recording.shape import ShapeHistory, Shapes, watch_shapes

SHAPES_KEY = "shapes"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShapeChanges:
    """What changed of a portal's responses."""

    count: int
    """Changes since the visit before."""
    notes: tuple[str, ...]
    """The recent ones."""


class VisitWatch:
    """Watches the visits of one account, one at a time."""

    def __init__(self, portal: Portal, ledger: Ledger, recordings: FailureRecordings | None) -> None:
        self._portal, self._ledger, self._recordings = portal, ledger, recordings
        self.recorder: Recorder | None = None
        """Of the visit under way."""
        self._shapes = Shapes()

    @contextmanager
    def watch(self, now: datetime) -> Iterator[None]:
        """Watch a visit."""
        self.recorder = self._recordings.begin(now) if self._recordings else None
        with self.watch_step():
            yield

    @contextmanager
    def watch_step(self) -> Iterator[None]:
        """Watch the shapes of what a step of the backlog brings."""
        with watch_shapes() as self._shapes:
            yield

    async def finish(self, error: Exception | None, now: datetime) -> ShapeChanges | None:
        """Write the recording of a failed visit, and compare the shapes."""
        recorder, self.recorder = self.recorder, None
        if recorder and self._recordings and isinstance(error, PortalError):
            config, rules = self._portal.config, self._portal.redaction_rules()
            await asyncio.to_thread(self._recordings.write, config, config.name, rules, recorder, error)
        return await self.compare_shapes(now)

    async def compare_shapes(self, now: datetime) -> ShapeChanges | None:
        """Compare the shapes with those of the visits before; return what changed, None where the ledger cannot tell."""
        name, day = self._portal.name, now.astimezone(self._portal.zone).date()
        store = self._ledger.get_account_store(name)
        try:
            stored = await store.get(SHAPES_KEY, now)
            history = ShapeHistory.parse(stored)
            changes = history.add(self._shapes, day)
            if self._shapes.fields and history.dump() != stored:
                await store.put(SHAPES_KEY, history.dump())
        except LedgerError as error:
            log.debug("account %s: shapes are not compared: %s", name, error)
            return None
        for change in changes:
            log.warning("account %s: %s", name, change)
        if unknown := sorted(self._shapes.unknown):
            log.debug("account %s: fields of responses that are not used: %s", name, ", ".join(unknown))
        self._shapes = Shapes()
        return ShapeChanges(len(changes), tuple(history.recent(day)))
