"""An account's configuration in a recording: its options as they are, its secrets as a word, its texts and numbers invented."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr

from exporter.duration import format_duration
from exporter.recording.json_text import Number
from exporter.recording.redaction import SECRET, Redactor

ACCOUNT = "account"
"""What the account is called in its recording."""
_LOGIN_NAMES = ("username", "client_id", "contact")
"""Keys that say who logs in, though they are no secrets."""


def redact_config(redactor: Redactor, config: BaseModel) -> dict[str, Any]:
    """Return the keys that differ from their defaults, and all addresses; with them the account can be built again."""
    redacted: dict[str, Any] = {}
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if key in ("portal", "name"):
            redacted[key] = value if key == "portal" else ACCOUNT
        elif key == "aliases":
            redacted |= {key: {redactor.redact_text(point): f"alias-{at}" for at, point in enumerate(value, 1)}} if value else {}
        elif value is not None and (_is_url(value) or value != field.get_default(call_default_factory=True)):
            redacted[key] = _redact_option(redactor, value, key)
    return redacted


def list_secrets(config: Any) -> Iterator[str]:
    """Return the secrets of a configuration, and the names of its login."""
    match config:
        case SecretStr():
            yield config.get_secret_value()
        case BaseModel():
            for key, field in type(config).model_fields.items():
                value = getattr(config, key)
                if key in _LOGIN_NAMES and value and value != field.default:
                    yield str(value)
                yield from list_secrets(value)
        case Mapping() | tuple() | list():
            for part in config.values() if isinstance(config, Mapping) else config:
                yield from list_secrets(part)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _redact_option(redactor: Redactor, value: Any, key: str) -> Any:
    match value:
        case bool() | Enum():
            return value.value if isinstance(value, Enum) else value
        case int() | float():
            return Number(repr(value))
        case timedelta():
            return format_duration(value)
        case tuple() | list():
            return [_redact_element(redactor, part, key) for part in value]
        case set() | frozenset():
            return [_redact_element(redactor, part, key) for part in sorted(value)]
    return _redact_text(redactor, value, key)


def _redact_element(redactor: Redactor, value: Any, key: str) -> Any:
    """Return one of several: a number there is an identifier, not an option."""
    if isinstance(value, int) and not isinstance(value, bool | Enum):
        return redactor.redact(Number(str(value)))
    return _redact_option(redactor, value, key)


def _redact_text(redactor: Redactor, value: Any, key: str) -> Any:
    match value:
        case SecretStr():
            return redactor.redact_token(value.get_secret_value()) or SECRET
        case BaseModel():
            return redact_config(redactor, value)
        case str():
            is_times = ":" in value and not value.strip("0123456789:-")
            return value if is_times else redactor.redact_account_text(value)
    return None
