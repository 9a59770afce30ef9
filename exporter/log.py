"""Log lines on stderr, as logfmt or JSON, with the names Prometheus people know."""

import json
import logging
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
FORMATS = ("logfmt", "json")
REPEAT_SECONDS = 60.0
MAX_REMEMBERED_MESSAGES = 500
_LEVEL_NAMES = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}


class LogfmtFormatter(logging.Formatter):
    """One line a record: ts=... level=... component=... msg="..."."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line; control characters and line ends are escaped."""
        return " ".join(f"{key}={_quote(value)}" for key, value in build_fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        return json.dumps(build_fields(record), ensure_ascii=False)


def build_fields(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields of a record: time in UTC, level, component, message, and the traceback of a bug."""
    fields = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _LEVEL_NAMES.get(record.levelno, record.levelname.lower()),
        "component": record.name.removeprefix("exporter.").split(".", maxsplit=1)[0],
        "msg": record.getMessage(),
    }
    error = record.exc_info[1] if record.exc_info else None
    return fields | ({"error": format_trace(error)} if error else {})


def format_trace(error: BaseException) -> str:
    """Return the type and the traceback of an error, without its message, which may hold a secret."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return (
        f"{format_trace(cause)}\nand then\n" if cause else ""
    ) + f"{frames}{type(error).__module__}.{type(error).__qualname__}"


class RepeatFilter(logging.Filter):
    """Passes the same warning or error once a minute, so that whoever causes it cannot fill the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        """Of each message, newest last: when it was passed, and how often it was held back since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; a message passed again says how often it was held back."""
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        text, now = record.getMessage(), self._clock()
        key = record.name, text
        at, count = self._passed.get(key, (-REPEAT_SECONDS, 0))
        if now - at < REPEAT_SECONDS:
            self._passed[key] = at, count + 1
            return False
        self._passed[key] = now, 0
        self._passed.move_to_end(key)
        if len(self._passed) > MAX_REMEMBERED_MESSAGES:
            self._passed.popitem(last=False)
        if count:
            record.msg, record.args = f"{text} ({count} more like it in between)", ()
        return True


def set_up_logging(level: str, log_format: str) -> None:
    """Log to stderr; libraries only from a warning up, because their messages may hold secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(JsonFormatter() if log_format == "json" else LogfmtFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("exporter").setLevel(LEVELS[level])


def _quote(text: str) -> str:
    plain = text.isprintable() and text and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
