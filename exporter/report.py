"""One visit to an account recorded: from an empty store, so that its login and all its lists are in the recording."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial

from exporter.accounts import build_session
from exporter.client.session import AccountStore, Session
from exporter.errors import (
    FeedRefusedError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    TooLongError,
    TooOldError,
    UnreachableError,
)
from exporter.models import Reading, VisitResult
from exporter.portals.base import Portal
from exporter.recording.recorder import FreshStore, Recorder
from exporter.recording.recording import Recording, build_recording
from exporter.sync.feeds import Feed, FeedResult

log = logging.getLogger(__name__)
MAX_FILE_BYTES = 1_000_000
"""Long lists are cut until a recording is no larger: a person looks through it."""
MAX_BYTES = 256 << 20
"""A city's lists are 35 MB; more than this is not held."""


build_small_recording = partial(build_recording, max_bytes=MAX_FILE_BYTES)


@dataclass(frozen=True, slots=True)
class RecordedVisit:
    """What a visit brought, or why it failed, and its recording."""

    result: VisitResult
    failure: PortalError | None
    recording: Recording


@dataclass(slots=True)
class _FeedReadings:
    readings: list[Reading] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[PortalError] = field(default_factory=list)
    skipped: int = 0


async def record_visit(
    portal: Portal,
    now: Callable[[], datetime],
    store: AccountStore,
    *,
    discover: bool = True,
    build: Callable[..., Recording] = build_small_recording,
) -> RecordedVisit:
    """Visit once, look at what there is, and return the recording; quotas are counted in `store`."""
    recorder = Recorder(now(), MAX_BYTES)
    result, failure = VisitResult(), None
    async with build_session(portal, FreshStore(store), now, recorder=recorder) as session:
        try:
            result = await visit_fresh(portal, session)
            failure = next(iter(result.failures), None)
            if discover and not isinstance(failure, LoginError | RateLimitError | UnreachableError):
                with suppress(PortalError):  # its requests are recorded, whatever comes of them
                    await portal.discover(session)
        except PortalError as error:
            failure = error
        except Exception as error:  # what makes a portal's code fail is what is to be seen
            log.exception("account %s: a bug in the portal %s", portal.name, portal.config.portal)
            failure = PortalError(f"a bug in the portal: {type(error).__name__}")
    return RecordedVisit(result, failure, build(portal.config, portal.redaction_rules(), recorder, failure))


async def visit_fresh(portal: Portal, session: Session) -> VisitResult:
    """Return what a first visit brings: the latest, and of each feed the newest request.

    Raise PortalError where nothing was brought.
    """
    result = await portal.latest(session)
    found = _FeedReadings()
    for feed in portal.feeds():
        try:
            part = await _read_newest(portal, session, feed)
        except (NoDataError, FeedRefusedError, TooOldError) as error:
            found.notes.append(str(error))
            continue
        except PortalError as error:
            found.failures.append(error)
            if isinstance(error, LoginError | RateLimitError | UnreachableError):
                break
            continue
        found.readings += part.readings
        found.notes += part.notes
        found.skipped += part.skipped
    return replace(
        result,
        readings=[*result.readings, *found.readings],
        notes=[*result.notes, *found.notes],
        failures=[*result.failures, *found.failures],
        skipped=result.skipped + found.skipped,
    )


async def _read_newest(portal: Portal, session: Session, feed: Feed) -> FeedResult:
    """Return the newest request of a feed, shortened until the portal makes it; raise PortalError."""
    first, last = find_newest_request(feed, session.now)
    while True:
        try:
            return await portal.read(session, feed, first, last)
        except TooLongError:
            if first == last:
                raise
            first = last - (last - first) // 2


def find_newest_request(feed: Feed, now: datetime) -> tuple[date, date]:
    """Return the first and last day of the newest request of a feed."""
    at = int(now.timestamp())
    newest = feed.last_day(at)
    first, last = feed.chunk.window(newest)
    oldest = feed.day_at(at - int(feed.reach.total_seconds())) if feed.reach else first
    return date.fromordinal(max(first, oldest)), date.fromordinal(min(last, newest))
