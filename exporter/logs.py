"""Log lines on stderr, as logfmt or JSON, with the names Prometheus people know."""

import json
import logging
import sys
from datetime import UTC, datetime

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
FORMATS = ("logfmt", "json")
_NAMES = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "error"}


class Logfmt(logging.Formatter):
    """One line a record: ts=... level=... component=... msg="..."."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; control characters and line ends are escaped."""
        return " ".join(f"{key}={_quoted(value)}" for key, value in facts(self, record).items())


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return json.dumps(facts(self, record), ensure_ascii=False)


def facts(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    """Take a record apart: time in UTC, level, component, message, and a bug's traceback."""
    said = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _NAMES.get(record.levelno, record.levelname.lower()),
        "component": record.name.removeprefix("exporter.").split(".", maxsplit=1)[0],
        "msg": record.getMessage(),
    }
    return said | ({"error": formatter.formatException(record.exc_info)} if record.exc_info else {})


def set_up(level: str, form: str) -> None:
    """Send our log to stderr; what libraries say only from a warning up, for they know no secrets from words."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Logfmt())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("exporter").setLevel(LEVELS[level])


def _quoted(text: str) -> str:
    plain = text.isprintable() and text and not any(letter in text for letter in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)
