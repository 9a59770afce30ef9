"""Remote write: what has settled goes to each receiver, oldest first, once."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from exporter.clock import Clock
from exporter.errors import LedgerError, UnreachableError
from exporter.history.receivers import Receiver
from exporter.history.send_batch import Batch
from exporter.history.send_door import Door, Meaning, Verdict, compressed
from exporter.history.send_health import Delivery
from exporter.history.send_plan import Plan, settled_at
from exporter.history.series import Aliases
from exporter.ledger import Ledger, Progress, to_ms

LOOK = timedelta(seconds=15)
"""How often a sender looks whether something was learned."""
SETTLE = timedelta(minutes=5)
"""How often it looks whether something has settled."""
COUNT = timedelta(minutes=1)
"""How often what is pending is counted anew while the receiver takes nothing."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=5)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""For a receiver that refuses us: more samples would not change its mind, a person may."""
MOST_PATIENCE = timedelta(days=1)
IN_A_ROW = 64
"""After so many refused samples with none taken between, a batch whose newest sample is refused too is set aside whole."""
log = logging.getLogger(__name__)
T = TypeVar("T")


class Sender:
    """Delivers to one receiver, one request at a time.

    What a request brought is remembered once it was taken: a sender killed in between sends that one batch again, no more.
    """

    def __init__(
        self,
        ledger: Ledger,
        receiver: Receiver,
        aliases: Aliases,
        clock: Clock,
        agent: str = "utility-exporter",
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger, self._books, self._clock, self._chance = ledger, ledger.deliveries(), clock, chance
        self._receiver, self._aliases = receiver, aliases
        self._door = Door(receiver, ledger.memory(""), clock.now, agent)
        # One thread reads ahead while the other writes down what was taken.
        self._threads = ThreadPoolExecutor(2, "remote-write")
        self._said = ""
        self._refused_in_a_row = 0
        self._counted = to_ms(clock.now())
        self.delivery = Delivery(receiver.target)

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            while True:
                try:
                    async with self._door:
                        await self._rounds()
                except UnreachableError as error:  # its ca_file: the door does not even open
                    self.delivery.up = False
                    self._say(str(error))
                await self._clock.sleep(FIRST_PAUSE)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _rounds(self) -> None:
        settled, wait = None, LOOK
        while True:
            now = to_ms(self._clock.now())
            try:
                if settled is None or abs(now - settled) >= _ms(SETTLE) or await self._waiting():
                    await self.round()
                    settled = now
                wait = LOOK
            except LedgerError as error:
                self._say(f"the ledger: {error}")
                wait = min(wait * 2, LONGEST_WAIT)
            except Exception:  # a bug here must not end a delivery for good
                log.exception("remote write to %s: a bug", self._receiver.target)
                wait = LONGEST_WAIT
            await self._clock.sleep(wait)

    async def round(self) -> None:
        """Deliver all that was learned and has settled by now. Raises LedgerError."""
        key, now = self._receiver.key, to_ms(self._clock.now())
        progress = await self._off_loop(self._books.begin, key, now, settled_at(self._receiver, now))
        plan = await self._off_loop(Plan, self._ledger, self._receiver, self._aliases, progress)
        assert progress.round is not None
        self.delivery.success = progress.success
        await self._count(plan)
        self.delivery.begun = progress.round.begun if self.delivery.pending else None
        progress = await self._batches(plan, progress)
        await self._off_loop(self._books.finish, key, progress, plan.unsettled)
        self.delivery.begun, self.delivery.pending = None, 0

    async def _batches(self, plan: Plan, progress: Progress) -> Progress:
        batches, counted = plan.batches(), 0
        coming = self._prepared(batches)
        try:
            while prepared := await coming:
                coming = self._prepared(batches)
                batch, block = prepared
                await self._deliver(batch, block, plan)
                progress = replace(batch.place, success=self.delivery.success)
                await self._off_loop(self._books.save, self._receiver.key, progress)
                self.delivery.corrections, counted = self.delivery.corrections + plan.corrections - counted, plan.corrections
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        self.delivery.corrections += plan.corrections - counted
        return progress

    def _prepared(self, batches: Iterator[Batch]) -> "asyncio.Future[tuple[Batch, bytes] | None]":
        """Make the next batch ready, while the one before is under way."""

        def prepare() -> tuple[Batch, bytes] | None:
            batch = next(batches, None)
            return (batch, _block(batch)) if batch else None

        return asyncio.ensure_future(self._off_loop(prepare))

    async def _waiting(self) -> bool:
        return await self._off_loop(self._books.waiting, self._receiver.key)

    async def _deliver(self, batch: Batch, block: bytes, plan: Plan) -> None:
        """Have a batch taken; samples that the receiver refuses are found by halving, and set aside."""
        left, pieces, aside = block, [batch], 0
        while pieces:
            piece = pieces.pop()
            refusal = await self._put(left or await self._off_loop(_block, piece), plan)
            left = b""
            if refusal is None:
                self._taken(piece)
            elif piece.size == 1:
                self._refused_in_a_row += 1
                aside += 1
            elif self._refused_in_a_row >= IN_A_ROW and await self._put(_block(piece.newest()), plan) is not None:
                aside += piece.size
            else:
                pieces += reversed(piece.split())
        self.delivery.refused += aside
        self.delivery.pending -= aside
        if aside:
            log.debug("remote write to %s: %d sample(s) set aside", self._receiver.target, aside)

    def _taken(self, piece: Batch) -> None:
        self._refused_in_a_row = 0
        self.delivery.sent += piece.size
        self.delivery.pending -= piece.size

    async def _put(self, block: bytes, plan: Plan) -> str | None:
        """Send until there is an answer to the samples themselves: None when they were taken, or why not."""
        tries = 0
        while True:
            verdict = await self._door.put(block)
            if verdict.meaning is Meaning.TAKEN:
                self._fares_well()
                return None
            if verdict.meaning is Meaning.NOT_THESE:
                self.delivery.up = True
                self._say(f"it refuses samples, which are set aside: {verdict.reason}")
                return verdict.reason
            self.delivery.up = False
            self._say(verdict.reason)
            tries += 1
            await self._clock.sleep(self._wait(verdict, tries))
            await self._count(plan, at_most_every=COUNT)

    def _fares_well(self) -> None:
        if self.delivery.up is False:
            log.info("remote write to %s: it takes samples again", self._receiver.target)
            self._said = ""
        self.delivery.up, self.delivery.success = True, to_ms(self._clock.now())

    def _wait(self, verdict: Verdict, tries: int) -> timedelta:
        if verdict.wait is not None:
            return min(max(verdict.wait, FIRST_WAIT), MOST_PATIENCE)
        first, longest = (FIRST_WAIT, LONGEST_WAIT) if verdict.meaning is Meaning.LATER else (FIRST_PAUSE, LONGEST_PAUSE)
        return min(first * 2.0 ** min(tries - 1, 20), longest) * (1 + self._chance() / 4)

    def _say(self, reason: str) -> None:
        """Log what is wrong, once."""
        if reason != self._said:
            self._said = reason
            log.warning("remote write to %s: %s", self._receiver.target, reason)

    async def _count(self, plan: Plan, at_most_every: timedelta = timedelta(0)) -> None:
        now = to_ms(self._clock.now())
        if abs(now - self._counted) >= _ms(at_most_every):
            self._counted = now
            with suppress(LedgerError):
                self.delivery.pending = await self._off_loop(_pending, self._ledger, plan, now)

    async def _off_loop(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _block(batch: Batch) -> bytes:
    return compressed(batch.body())


def _pending(ledger: Ledger, plan: Plan, now: int) -> int:
    with ledger.look() as look:
        return plan.pending(look, now)


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
