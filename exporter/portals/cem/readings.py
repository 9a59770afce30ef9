"""The last values of many counters: in batches, a few at a time, one by one only where a batch as such is refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from exporter.errors import LoginError, PortalError, RateLimitError
from exporter.model import Index, Note, Register, Told, possible
from exporter.portals.cem.answers import Values, instant, last_values, many
from exporter.portals.cem.api import Api, RefusedError
from exporter.portals.cem.estate import never_read
from exporter.portals.cem.kinds import Scale
from exporter.portals.cem.roster import Roster, Rows

MOST_FAILURES = 3
"""After so many failed calls in a row the portal is left alone until the next visit."""
Thing = TypeVar("Thing")


class LastValues:
    """One round of asking: what came is told part by part, what failed is kept in `failures`."""

    def __init__(self, api: Api, *, batch_size: int, parallel: int) -> None:
        self.failures: list[PortalError] = []
        self._api, self._size, self._parallel = api, batch_size, parallel
        self._in_row, self._slow_down = 0, False
        self._alone: list[int] = []

    async def ask(self, counters: Sequence[int]) -> AsyncIterator[Values]:
        """Ask for all counters, each once; raises LoginError, and bugs."""
        async for values in self._waves(self._batch, _parts(counters, self._size)):
            yield values
        async for values in self._waves(self._single, self._alone):
            yield values

    async def _waves(self, ask: Callable[[Thing], Awaitable[Values | None]], things: Sequence[Thing]) -> AsyncIterator[Values]:
        for wave in _parts(things, self._parallel):
            if self._slow_down or self._in_row >= MOST_FAILURES:
                return
            for result in await asyncio.gather(*map(ask, wave), return_exceptions=True):
                if isinstance(result, BaseException):
                    self._failed(result)
                elif result is not None:
                    self._in_row = 0
                    yield result

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, PortalError) or isinstance(error, LoginError):
            raise error
        self.failures.append(error)
        self._in_row += 1
        self._slow_down = self._slow_down or isinstance(error, RateLimitError)

    async def _batch(self, counters: Sequence[int]) -> Values | None:
        """Ask for many; where the batch itself is refused, or is answered by no list, they are left to be asked alone."""
        try:
            answer = await self._api.post(8, [{"var_id": counter} for counter in counters])
        except RefusedError:
            answer = None
        if many(answer) is None:
            self._alone += counters
            return None
        return last_values(answer, self._api.session.now)

    async def _single(self, counter: int) -> Values:
        answer = await self._api.get(8, {"var_id": str(counter)})
        return last_values(answer, self._api.session.now, asked=counter)


class Heard:
    """What a visit has heard of an account's counters so far."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._read: set[int] = set()
        self._odd = False
        self.parts = 0

    def tell(self, values: Values) -> Iterable[Told]:
        """Tell a part of an answer."""
        self.parts += 1
        self._odd = self._odd or values.odd
        for index in indexes(values, self._roster.lines):
            self._read.add(int(index.register.name))
            yield index

    def rest(self, now: datetime, stated: Rows) -> Iterable[Told]:
        """Tell what the answers left out: values that a new list of counters has `stated`, and what there is to note."""
        left_out = [
            {"var_id": counter, "value": value, "timestamp": time} for counter, value, time in stated if counter not in self._read
        ]
        if left_out:
            yield from self.tell(last_values(left_out, now))
        yield from never_read(self._roster.waiting - self._read)
        if self._odd:
            yield Note("Some readings carry an impossible time and were left out.")


def indexes(values: Values, lines: Mapping[int, tuple[Register, Scale]]) -> Iterator[Index]:
    """Turn the portal's numbers into what registers showed; counters that are not shown are passed over."""
    for (counter, milliseconds), value in values.found.items():
        line, at = lines.get(counter), instant(milliseconds)
        if line and at and possible(scaled := line[1](value)):
            yield Index(line[0], scaled, at)


def _parts(things: Sequence[Thing], size: int) -> list[Sequence[Thing]]:
    return [things[start : start + size] for start in range(0, len(things), size)]
