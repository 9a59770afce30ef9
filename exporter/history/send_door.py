"""The way to a receiver: Prometheus remote write 1.0, and what its answers mean."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Self

from exporter.answer import Answer
from exporter.errors import ResponseError, UnreachableError
from exporter.history import snappy
from exporter.history.receivers import Receiver
from exporter.model import clean
from exporter.session import Memory, Session, retry_after

LARGEST_ANSWER = 64 * 1024
_PERSONAL = re.compile(r"\S*@\S*|\d{5,}")
_NOT_THE_SAMPLES = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 417, 421, 426, 431, 451})
"""Statuses of a 4xx that no other samples would change: a wrong address, login or tenant."""


class Meaning(Enum):
    """What an answer asks of the sender."""

    TAKEN = auto()
    LATER = auto()
    """The receiver is not there, or has too much to do."""
    NOT_YOU = auto()
    """It takes nothing from us as we are configured."""
    NOT_THESE = auto()
    """It refuses samples that were sent."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A receiver's answer; `reason` is fit for a log, `wait` is what it asked for."""

    meaning: Meaning
    reason: str = ""
    wait: timedelta | None = None


class Door:
    """An open way to a receiver. Use it as an async context manager."""

    def __init__(self, receiver: Receiver, memory: Memory, clock: Callable[[], datetime], agent: str) -> None:
        self._url, self._headers, self._clock = receiver.url, _headers(receiver), clock
        self._session = Session(
            memory=memory,
            clock=clock,
            timeout=receiver.timeout,
            ca_file=str(receiver.ca_file) if receiver.ca_file else None,
            user_agent=agent,
            largest=LARGEST_ANSWER,
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__(None, None, None)

    async def put(self, block: bytes) -> Verdict:
        """Send a compressed WriteRequest once."""
        try:
            answer = await self._session.request(
                "POST", self._url, data=block, headers=self._headers, what="remote write", checked=False
            )
        except (UnreachableError, ResponseError) as error:
            return Verdict(Meaning.LATER, str(error))
        if 200 <= answer.status < 300:
            return Verdict(Meaning.TAKEN)
        return Verdict(_meaning(answer.status), _reason(answer), retry_after(answer.headers.get("Retry-After"), self._clock()))


def compressed(body: bytes) -> bytes:
    """Make a body ready to be put."""
    return snappy.compress(body)


def _headers(receiver: Receiver) -> dict[str, str]:
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


def _meaning(status: int) -> Meaning:
    if status >= 500 or status in (408, 425, 429):
        return Meaning.LATER
    return Meaning.NOT_THESE if status >= 400 and status not in _NOT_THE_SAMPLES else Meaning.NOT_YOU


def _reason(answer: Answer) -> str:
    """Say what a receiver answered, without the numbers of meters and the addresses it may have quoted."""
    said = clean(_PERSONAL.sub("…", " ".join(answer.text()[:1000].split())))
    return f"status {answer.status}" + (f": {said}" if said else "")
