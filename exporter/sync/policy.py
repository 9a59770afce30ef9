"""When a day is asked again, and when a feed's silence is noted: pure functions, and every figure of them in one table.

Instants are Unix seconds and days are ordinals: a plan asks this some thousand times.
"""

from collections.abc import Sequence
from datetime import date
from enum import Enum

from exporter.sync.coverage import Coverage, DayState, is_corrected
from exporter.sync.feeds import DAY_SECONDS, Days, Feed

HOUR = 3600
MIN_WAIT = HOUR
"""Seconds before which no request is repeated in vain."""

# Seconds: after so many asks in vain (or, of whole days, without a change) the next wait of the row; the last is repeated.
YOUNG_WAITS = (3 * HOUR, 6 * HOUR, 12 * HOUR, DAY_SECONDS)
"""Not whole, younger than `settles`."""
HOLE_WAITS = tuple(days * DAY_SECONDS for days in (1, 3, 7, 14, 28, 28, 28, 84))
"""Not whole and older, with known days on both sides. Of a curve nearly each is a request."""
EMPTY_WAITS = tuple(days * DAY_SECONDS for days in (1, 28, 84))
"""Before everything known: one request for the whole empty range."""
SILENT_WAITS = (12 * HOUR,)
"""A feed that has stopped, or never gave anything: its newest days."""
CORRECTION_WAITS = tuple(days * DAY_SECONDS for days in (1, 2, 4, 8))
"""Whole, younger than `settles`."""
TOO_OLD_WAITS = tuple(days * DAY_SECONDS for days in (1, 7, 28, 84))
"""The day before the first one that the portal has."""
FAILED_WAITS = (HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY_SECONDS)
"""A feed that fails, and young days of a response that was not understood; older ones are asked again like holes."""
REFUSED_WAIT = DAY_SECONDS
"""A feed that is refused, where it is not known until when."""
LONG_HOLE_DAYS = 14
"""So many empty days in a row, older than `settles`, are asked for by one request for all of them."""
SILENT_AFTER_DAYS = 14
"""After so many empty days in a row at its newest end a feed counts as silent."""
IMPORT_REPEAT_WAIT = 12 * HOUR
"""Seconds for which an import does not ask again for a whole day."""
EMPTY_AFTER_TRIES, EMPTY_AFTER = 3, DAY_SECONDS
"""After so many asks for one day, or asks for so long, a feed of which nothing is known is noted as empty."""
STOPPED_AFTER_DAYS = 4
"""After so many days without anything, older than `delay`, a feed is noted as stopped."""


class DayPosition(Enum):
    """Where a day lies among all days of its feed of which anything is known."""

    BEFORE = "before"
    INSIDE = "inside"
    AFTER = "after"


def select_wait(row: tuple[int, ...], tries: int) -> int:
    """Return the wait after `tries` asks (at least one)."""
    return row[min(max(tries, 1), len(row)) - 1]


def find_next_ask(
    feed: Feed, day: int, state: DayState, position: DayPosition, *, asked: int, tries: int, now: int
) -> int | None:
    """Return when a day is to be asked again, None for never by itself.

    `asked` is when it was asked last (0: not known), `tries` how often in vain since; for a whole day, how often since it
    became whole. A day that was never asked is not in question here: it is backlog, and due at once.
    """
    settled = feed.start(day + 1) + round(feed.settles.total_seconds())
    if state is DayState.WHOLE:
        at = _find_correction_time(feed, day, settled, asked, tries, now)
    elif not asked:
        return now
    elif now < settled:
        is_expected = state is DayState.ABSENT and now < feed.start(day + 1) + feed.delay.total_seconds()
        at = asked + (MIN_WAIT if is_expected else select_wait(YOUNG_WAITS, tries))
    elif position is DayPosition.AFTER:
        return None
    elif position is DayPosition.BEFORE:
        at = asked + select_wait(EMPTY_WAITS, tries)
    else:
        at = asked + select_wait(HOLE_WAITS, min(tries, _find_hole_step(settled, asked)))
    return None if at is None else max(at, asked + MIN_WAIT)


def find_group(feed: Feed, day: int) -> tuple[int, int]:
    """Return the first day of those that are asked again together, once all are old enough, and the day after the last.

    A week, unless a request holds one day only.
    """
    return (day, day + 1) if feed.chunk == Days(1) else (day - day % 7, day - day % 7 + 7)


def describe_silence(feed: Feed, coverage: Coverage, now: int) -> Sequence[str]:
    """Return the note on a feed of which nothing comes, or no more; none for any other."""
    if not (feed.if_empty or feed.if_stopped):
        return ()
    expected = feed.day_at(now - round(feed.delay.total_seconds())) - 1
    known = coverage.find_known_range()
    if known is None:
        runs = [run for run in coverage.runs if run.first <= expected]
        asked = [run.asked for run in runs]
        is_asked_for_long = bool(runs) and (
            max(run.tries for run in runs) >= EMPTY_AFTER_TRIES or max(asked) - min(asked) >= EMPTY_AFTER
        )
        return [_format_note(feed, feed.if_empty)] if is_asked_for_long and feed.if_empty else ()
    absent = sum(run.last - run.first + 1 for run in coverage.list_runs(known[1] + 1, expected))
    if not feed.if_stopped or absent < STOPPED_AFTER_DAYS:
        return ()
    return [_format_note(feed, f"{feed.if_stopped}; the last day is {date.fromordinal(known[1])}")]


def describe_misread(feed: Feed, coverage: Coverage) -> Sequence[str]:
    """Return the note on days whose response was not understood; none if there are no such days."""
    if not coverage.misread:
        return ()
    days = ", ".join(f"{date.fromordinal(entry.first)} to {date.fromordinal(entry.last)}" for entry in coverage.misread[-3:])
    more = f" and {len(coverage.misread) - 3} more" if len(coverage.misread) > 3 else ""
    return [_format_note(feed, f"cannot parse the response for {days}{more}; it is requested again later")]


def _format_note(feed: Feed, text: str) -> str:
    return f"{feed.label}: {text}" if feed.label else text


def _find_correction_time(feed: Feed, day: int, settled: int, asked: int, tries: int, now: int) -> int | None:
    """Return when a whole day is read again for corrections: ever more rarely, once when settled, once at `recheck`."""
    if not is_corrected(feed):
        return None
    _, group_end = find_group(feed, day)
    if feed.settles and (now < settled or 0 < asked < settled):
        at = asked + select_wait(CORRECTION_WAITS, tries + 1)
        return at if at < settled and now < settled else feed.start(group_end) + round(feed.settles.total_seconds())
    if feed.recheck is None:
        return None
    recheck = feed.start(group_end) + round(feed.recheck.total_seconds())
    is_done = asked >= recheck if asked else tries > 0
    return None if is_done else recheck


def _find_hole_step(settled: int, asked: int) -> int:
    """Return which wait of `HOLE` follows by age alone: asks made while the day was young count no longer."""
    step, reached = 1, settled
    for length in HOLE_WAITS:
        reached += length
        if asked < reached:
            break
        step += 1
    return step
