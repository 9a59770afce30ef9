"""The notes on a feed of which nothing comes, or no more, or something that is not understood: silence is a fault."""

from collections.abc import Sequence
from datetime import date

from exporter.sync import policy
from exporter.sync.coverage import Coverage
from exporter.sync.feeds import Feed


def describe_silence(feed: Feed, coverage: Coverage, now: int) -> Sequence[str]:
    """Return the note on a feed of which nothing comes, or no more; none for any other."""
    if not (feed.if_empty or feed.if_stopped):
        return ()
    expected = feed.day_at(now - round(feed.delay.total_seconds())) - 1
    known = coverage.known_span()
    if known is None:
        runs = [run for run in coverage.runs if run.first <= expected]
        asked = [run.asked for run in runs]
        is_asked_for_long = bool(runs) and (
            max(run.tries for run in runs) >= policy.EMPTY_TRIES or max(asked) - min(asked) >= policy.EMPTY_TIME
        )
        return [feed.if_empty] if is_asked_for_long and feed.if_empty else ()
    absent = sum(run.last - run.first + 1 for run in coverage.list_runs(known[1] + 1, expected))
    if not feed.if_stopped or absent < policy.STOPPED:
        return ()
    return [f"{feed.if_stopped}; the last day is {date.fromordinal(known[1])}"]


def describe_misread(feed: Feed, coverage: Coverage) -> Sequence[str]:
    """Return the note on days whose response was not understood; none if there are no such days."""
    if not coverage.misread:
        return ()
    entry, *_ = feed.if_empty.split(": ")
    days = ", ".join(f"{date.fromordinal(span.first)} to {date.fromordinal(span.last)}" for span in coverage.misread[-3:])
    more = f" and {len(coverage.misread) - 3} more" if len(coverage.misread) > 3 else ""
    return [f"{entry or 'one feed'}: the response for {days}{more} could not be understood; it is requested again later"]
