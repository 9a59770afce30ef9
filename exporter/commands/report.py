"""The command `report`: a visit recorded from an empty store, so that its login and all its lists are in the recording."""

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from exporter.client.session import AccountStore, Session
from exporter.commands.context import CommandContext, build_context, find_account, open_visit, utc_now
from exporter.commands.printing import strip_control
from exporter.errors import (
    ConfigError,
    FeedRefusedError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    TooLongError,
    TooOldError,
    UnreachableError,
    select_main_failure,
)
from exporter.files import slugify
from exporter.models import Reading, VisitResult
from exporter.portals.base import Portal
from exporter.recording.dates import MOVE
from exporter.recording.recorder import FreshStore, Recorder
from exporter.recording.recording import Recording, build_recording, get_file, read_document, write_document
from exporter.sync.feeds import Feed, FeedResult
from exporter.visit import build_session

MAX_FILE_BYTES = 1_000_000
"""Long lists are cut until a recording is no larger: a person looks through it."""
MAX_BYTES = 256 << 20
"""A city's lists are 35 MB; more than this is not held."""
build_small_recording = partial(build_recording, max_bytes=MAX_FILE_BYTES)
MAX_WORDS = 40
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedVisit:
    """What a visit brought, or why it failed, and its recording."""

    result: VisitResult
    failure: PortalError | None
    recording: Recording


def write_report(options: argparse.Namespace) -> int:
    """Record a visit, or fetch the recording of the last failed one, show what is in it, and write it."""
    context = build_context(options)
    if options.last_failure:
        document, failure = read_last_failure(context), None
    else:
        visit = asyncio.run(record_account(context))
        document, failure = visit.recording.document, visit.failure
    file = options.output or Path(f"report-{slugify(context.account)}.json")
    sys.stdout.write(f"Recording of {strip_control(context.account)}; nothing has been sent to anybody.\n")
    if failure and not document["calls"]:
        sys.stdout.write(f"No request was made: {strip_control(str(failure))}\n")
        if get_file(context.storage_path, context.account).exists():
            sys.stdout.write("The last failed visit of serve is recorded: --last-failure reports it.\n")
    sys.stdout.write("".join(f"{strip_control(line)}\n" for line in summarize(document).splitlines()))
    size = write_document(document, file)
    sys.stdout.write(f"Look through it before you publish it: {file} ({max(size // 1000, 1)} kB)\n")
    return 0


async def record_account(context: CommandContext) -> RecordedVisit:
    """Return a visit that starts with an empty store; while the login is suspended, the reason that none is made.

    Raise ConfigError and LedgerError.
    """
    try:
        async with open_visit(context) as visit:
            recorded = await record_visit(visit.portal, utc_now, visit.ledger.get_account_store(visit.portal.name))
            await visit.record_login(recorded.failure)
            return recorded
    except LoginError as error:
        portal = find_account(context)
        recording = build_small_recording(portal.config, portal.get_redaction_rules(), Recorder(utc_now(), MAX_BYTES), error)
        return RecordedVisit(VisitResult(), error, recording)


def read_last_failure(context: CommandContext) -> dict[str, Any]:
    """Return the recording of the account's last failed visit; raise ConfigError."""
    file = get_file(context.storage_path, find_account(context).name)
    try:
        return read_document(file)
    except FileNotFoundError:
        raise ConfigError(f"no failed visit of {context.account} is recorded in {context.storage_path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


async def record_visit(
    portal: Portal,
    now: Callable[[], datetime],
    store: AccountStore,
    *,
    discover: bool = True,
    build: Callable[..., Recording] = build_small_recording,
) -> RecordedVisit:
    """Visit once, look at what there is, and return the recording; quotas and failed logins are counted in `store`."""
    recorder = Recorder(now(), MAX_BYTES)
    result, failure = VisitResult(), None
    async with build_session(portal, FreshStore(store), now, recorder=recorder) as session:
        try:
            result = await visit_fresh(portal, session)
            failure = select_main_failure(result.failures)
            if discover and not isinstance(failure, LoginError | RateLimitError | UnreachableError):
                failure = await _discover(portal, session) or failure
        except PortalError as error:
            failure = error
        except Exception as error:  # what makes a portal's code fail is what is to be seen
            log.exception("account %s: unexpected error in portal module %s", portal.name, portal.config.portal)
            failure = PortalError(f"unexpected error in the portal module: {type(error).__name__}")
    return RecordedVisit(result, failure, build(portal.config, portal.get_redaction_rules(), recorder, failure))


async def _discover(portal: Portal, session: Session) -> LoginError | None:
    """Look at what there is, for its requests, which are recorded whatever comes of them; return why a login was refused."""
    try:
        await portal.discover(session)
    except LoginError as error:
        return error
    except PortalError:
        pass
    return None


async def visit_fresh(portal: Portal, session: Session) -> VisitResult:
    """Return what a first visit brings: the latest, and of each feed the newest request.

    Raise PortalError where nothing was brought.
    """
    result = await portal.fetch_latest(session)
    found = _FeedReadings()
    for feed in portal.list_feeds():
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


@dataclass(slots=True)
class _FeedReadings:
    readings: list[Reading] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[PortalError] = field(default_factory=list)
    skipped: int = 0


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
    first, last = feed.chunk.find_range(newest)
    oldest = feed.day_at(at - int(feed.reach.total_seconds())) if feed.reach else first
    return date.fromordinal(max(first, oldest)), date.fromordinal(min(last, newest))


def summarize(document: dict[str, Any]) -> str:
    """Return a recording in some lines."""
    calls = document["calls"]
    at = datetime.fromisoformat(document["at"]) - MOVE
    failure = document["failure"]
    rows, skipped = (int(document["left_out"][name].text) for name in ("rows", "calls"))
    lines = {
        "visit": f"{at:%Y-%m-%d %H:%M} UTC at {document['config']['portal']}",
        "outcome": f"{failure['reason']}: {failure['message']}" if failure else "no failure",
        "requests": _count(call["request"]["method"] for call in calls) + (f"; {skipped} too large to record" if skipped else ""),
        "responses": _count(_describe_response(call) for call in calls),
        "left out": f"{rows} rows of long lists; those that stand for them are kept" if rows else "nothing",
        "replaced": "every text, number and address that is not listed here; dates moved, amounts times a secret factor",
        "as it was": _list_words(document["kept_words"]),
    }
    return "".join(f"  {name:<10} {text}\n" for name, text in lines.items())


def _count(words: Any) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common()) or "none"


def _describe_response(call: dict[str, Any]) -> str:
    if "error" in call:
        return "without a response"
    response = call["response"]
    kinds = {"json": "JSON", "html": "web page", "text": "text", "bytes": "binary", "same_as_call": "repeated"}
    kind = next((kind for name, kind in kinds.items() if name in response), "without its body")
    return f"{kind} ({response['status'].text})"


def _list_words(words: list[str]) -> str:
    shown = ", ".join(words[:MAX_WORDS])
    return f"{shown} and {len(words) - MAX_WORDS} more (kept_words)" if len(words) > MAX_WORDS else shown or "nothing"
