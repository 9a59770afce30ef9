"""Log lines: what repeats is held back."""

import logging

from exporter.log import MAX_REMEMBERED_MESSAGES, REPEAT_SECONDS, RepeatFilter


def build_record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("exporter.web", level, "", 0, text, (), None)


def test_the_same_warning_is_logged_once_a_minute():
    """
    A warning that repeats is logged once a minute, with how often it was held back; what informs is always logged.
    """
    now = [0.0]
    repeat = RepeatFilter(lambda: now[0])
    first = [repeat.filter(build_record("remote read aborted")) for _ in range(5)]
    other = repeat.filter(build_record("another"))
    informing = [repeat.filter(build_record("configuration reloaded", logging.INFO)) for _ in range(3)]
    now[0] = REPEAT_SECONDS
    again = build_record("remote read aborted")

    assert (first, other, informing) == ([True, False, False, False, False], True, [True] * 3)
    assert repeat.filter(again)
    assert again.getMessage() == "remote read aborted (4 more like it in between)"


def test_what_is_remembered_is_bounded():
    """
    Ever new messages take no more memory.
    """
    repeat = RepeatFilter()
    assert all(repeat.filter(build_record(f"message {number}")) for number in range(2 * MAX_REMEMBERED_MESSAGES))
    assert len(repeat._passed) == MAX_REMEMBERED_MESSAGES
