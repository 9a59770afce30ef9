"""The client of a receiver: Prometheus remote write 1.0, and the meaning of its responses."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Self
from urllib.parse import quote, quote_plus

from exporter.client.response import Response
from exporter.client.session import AccountStore, Session, parse_retry_after
from exporter.errors import ResponseError, UnreachableError
from exporter.history.config import Receiver
from exporter.models import clean_label

MAX_RESPONSE_BYTES = 64 * 1024
MIN_SECRET_LENGTH = 3
"""A shorter text is no secret, and is part of many words."""
_PERSONAL_DATA = re.compile(r"(?<!\S)\S*@\S*|\d{5,}")
_MISCONFIGURED_STATUSES = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 417, 421, 426, 431, 451})
"""4xx statuses that do not depend on the samples: a wrong URL, login or tenant."""


class SendOutcome(Enum):
    """What a response means for the sender."""

    ACCEPTED = auto()
    RETRY = auto()
    """The receiver is unreachable or overloaded."""
    MISCONFIGURED = auto()
    """It rejects every request of this configuration."""
    SAMPLES_REJECTED = auto()
    """It rejects samples of the request."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of a request; `reason` is safe to log, `retry_after` is what the receiver asked for."""

    outcome: SendOutcome
    reason: str = ""
    retry_after: timedelta | None = None


class RemoteWriteClient:
    """Sends requests to a receiver. Use it as an async context manager."""

    def __init__(self, receiver: Receiver, store: AccountStore, clock: Callable[[], datetime], user_agent: str) -> None:
        self._url, self._headers, self._clock = receiver.url, _build_headers(receiver), clock
        self._mask = build_mask(_list_secrets(receiver))
        self._session = Session(
            store=store,
            clock=clock,
            timeout=receiver.timeout,
            ca_file=str(receiver.ca_file) if receiver.ca_file else None,
            user_agent=user_agent,
            max_response_bytes=MAX_RESPONSE_BYTES,
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__(None, None, None)

    async def send(self, body: bytes) -> SendResult:
        """Send a compressed WriteRequest once."""
        try:
            response = await self._session.request(
                "POST", self._url, data=body, headers=self._headers, label="remote write", raise_for_status=False
            )
        except (UnreachableError, ResponseError) as error:
            return SendResult(SendOutcome.RETRY, str(error))
        if 200 <= response.status < 300:
            return SendResult(SendOutcome.ACCEPTED)
        return SendResult(
            _classify_status(response.status),
            self._describe_response(response),
            parse_retry_after(response.headers.get("Retry-After"), self._clock()),
        )

    def _describe_response(self, response: Response) -> str:
        """Return a receiver's response for a log, without our secrets, meter numbers and addresses that it may quote."""
        text = clean_label(_PERSONAL_DATA.sub("…", self._mask(" ".join(response.text()[:4000].split()))))
        return f"status {response.status}" + (f": {text}" if text else "")


def build_mask(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces every secret in a text by `…`, also URL-encoded, as JSON, in base64 or in another case.

    A receiver or a proxy may quote what it was sent.
    """
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET_LENGTH for form in _list_forms(secret)}
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)
    return lambda text: pattern.sub("…", text)


def _list_forms(secret: str) -> Iterable[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(secret.encode()).decode()
        for offset in range(3):  # where the secret begins within a group of three bytes
            encoded = encode(bytes(offset) + secret.encode())
            # The characters that depend on neighbouring bytes are left out.
            part = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[(offset + len(secret.encode())) % 3]].decode()
            if len(part) > MIN_SECRET_LENGTH:
                yield part


def _list_secrets(receiver: Receiver) -> Iterator[str]:
    for value in receiver.headers.values():
        yield value.get_secret_value()
    if receiver.basic_auth:
        password = receiver.basic_auth.password.get_secret_value()
        yield password
        yield f"{receiver.basic_auth.username}:{password}"
    if receiver.bearer_token:
        yield receiver.bearer_token.get_secret_value()


def _build_headers(receiver: Receiver) -> dict[str, str]:
    headers = {name: value.get_secret_value() for name, value in receiver.headers.items()}
    if receiver.basic_auth:
        pair = f"{receiver.basic_auth.username}:{receiver.basic_auth.password.get_secret_value()}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    elif receiver.bearer_token:
        headers["Authorization"] = f"Bearer {receiver.bearer_token.get_secret_value()}"
    return headers | {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }


def _classify_status(status: int) -> SendOutcome:
    if status >= 500 or status in (408, 425, 429):
        return SendOutcome.RETRY
    return SendOutcome.SAMPLES_REJECTED if status >= 400 and status not in _MISCONFIGURED_STATUSES else SendOutcome.MISCONFIGURED
