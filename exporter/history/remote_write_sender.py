"""The sender of remote write: delivers settled samples to one receiver, oldest first, once."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from exporter.clock import Clock
from exporter.errors import LedgerError, UnreachableError
from exporter.history.config import Receiver
from exporter.history.encoding import compress
from exporter.history.remote_write_client import RemoteWriteClient, SendOutcome, SendResult
from exporter.history.series import Aliases
from exporter.history.write_queue import Batch, WriteQueue, settled_until
from exporter.ledger.database import from_ms, to_ms
from exporter.ledger.delivery_state import DeliveryProgress
from exporter.ledger.ledger import Ledger

POLL_INTERVAL = timedelta(seconds=15)
"""How often a sender checks for new readings."""
SETTLE_INTERVAL = timedelta(minutes=5)
"""How often it checks whether readings have settled."""
PENDING_COUNT_INTERVAL = timedelta(minutes=1)
"""How often pending samples are counted while the receiver accepts nothing."""
MIN_RETRY_DELAY, MAX_RETRY_DELAY = timedelta(seconds=1), timedelta(minutes=5)
MIN_REJECTED_DELAY, MAX_REJECTED_DELAY = timedelta(minutes=1), timedelta(hours=1)
"""For a receiver that rejects this configuration: other samples would not help, an administrator may."""
MAX_RETRY_AFTER = timedelta(days=1)
MAX_CONSECUTIVE_REJECTIONS = 64
"""After so many consecutive rejected samples, a batch whose newest sample is rejected too is dropped as a whole."""
Samples = dict[str, dict[tuple[str, ...], float]]
"""Family -> label values -> value."""
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class DeliveryStats:
    """The state of a delivery, updated by its sender; counters start at 0 with the process."""

    target: str
    up: bool | None = None
    """Whether the last request succeeded; None before the first."""
    pending: int = 0
    sent: int = 0
    refused: int = 0
    corrections: int = 0
    last_success_ms: int | None = None
    pending_since_ms: int | None = None
    """Since when samples have been pending; both in milliseconds."""

    def to_samples(self, now: datetime) -> Samples:
        """Return the metrics of the delivery."""
        values: dict[str, float | None] = {
            "utility_exporter_remote_write_up": self.up,
            "utility_exporter_remote_write_pending_samples": max(self.pending, 0),
            "utility_exporter_remote_write_sent_samples_total": self.sent,
            "utility_exporter_remote_write_refused_samples_total": self.refused,
            "utility_exporter_remote_write_corrections_total": self.corrections,
            "utility_exporter_remote_write_lag_seconds": max((now - from_ms(self.pending_since_ms)).total_seconds(), 0)
            if self.pending_since_ms is not None
            else 0,
            "utility_exporter_remote_write_last_success_timestamp_seconds": None
            if self.last_success_ms is None
            else self.last_success_ms / 1000,
        }
        return {name: {(self.target,): float(value)} for name, value in values.items() if value is not None}


class Sender:
    """Delivers to one receiver, one request at a time.

    Progress is saved after each accepted request: a sender killed in between sends that one batch again, no more.
    """

    def __init__(
        self,
        ledger: Ledger,
        receiver: Receiver,
        aliases: Aliases,
        clock: Clock,
        user_agent: str = "utility-exporter",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._ledger, self._delivery_state, self._clock, self._jitter = ledger, ledger.get_delivery_state(), clock, jitter
        self._receiver, self._aliases = receiver, aliases
        self._client = RemoteWriteClient(receiver, ledger.get_account_store(""), clock.now, user_agent)
        # One thread reads ahead while the other saves progress.
        self._executor = ThreadPoolExecutor(2, "remote-write")
        self._last_logged = ""
        self._consecutive_rejections = 0
        self._counted_at = to_ms(clock.now())
        self.stats = DeliveryStats(receiver.target)

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                try:
                    async with self._client:
                        await self._run_rounds()
                except UnreachableError as error:  # its ca_file cannot be loaded
                    self.stats.up = False
                    self._log_once(str(error))
                await self._clock.sleep(MIN_REJECTED_DELAY)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run_rounds(self) -> None:
        settled, wait = None, POLL_INTERVAL
        while True:
            now = to_ms(self._clock.now())
            try:
                if settled is None or abs(now - settled) >= _to_milliseconds(SETTLE_INTERVAL) or await self._has_pending():
                    await self.run_round()
                    settled = now
                wait = POLL_INTERVAL
            except LedgerError as error:
                self._log_once(f"failed to read the ledger: {error}")
                wait = min(wait * 2, MAX_RETRY_DELAY)
            except Exception:  # a bug must not end the delivery
                log.exception("remote write to %s: unexpected error (a bug)", self._receiver.target)
                wait = MAX_RETRY_DELAY
            await self._clock.sleep(wait)

    async def run_round(self) -> None:
        """Deliver all readings that have settled by now; raise LedgerError."""
        key, now = self._receiver.key, to_ms(self._clock.now())
        progress, delivery_round = await self._run_in_thread(
            self._delivery_state.begin_round, key, now, settled_until(self._receiver, now)
        )
        queue = await self._run_in_thread(WriteQueue, self._ledger, self._receiver, self._aliases, progress, delivery_round)
        self.stats.last_success_ms = progress.success
        await self._update_pending(queue)
        self.stats.pending_since_ms = delivery_round.begun if self.stats.pending else None
        await self._send_batches(queue, progress)
        progress = replace(progress, success=self.stats.last_success_ms)
        await self._run_in_thread(self._delivery_state.finish_round, key, progress, delivery_round, queue.unsettled_ranges)
        self.stats.pending_since_ms, self.stats.pending = None, 0

    async def _send_batches(self, queue: WriteQueue, progress: DeliveryProgress) -> None:
        batches, counted = queue.generate_batches(), 0
        coming = self._prepare_next(batches)
        try:
            while prepared := await coming:
                coming = self._prepare_next(batches)
                batch, block = prepared
                await self._send_batch(batch, block, queue)
                progress = replace(progress, success=self.stats.last_success_ms)
                await self._run_in_thread(self._delivery_state.save_progress, self._receiver.key, progress, batch.position)
                self.stats.corrections, counted = self.stats.corrections + queue.corrections - counted, queue.corrections
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        self.stats.corrections += queue.corrections - counted

    def _prepare_next(self, batches: Iterator[Batch]) -> "asyncio.Future[tuple[Batch, bytes] | None]":
        """Prepare the next batch while the previous one is sent."""

        def prepare() -> tuple[Batch, bytes] | None:
            batch = next(batches, None)
            return (batch, _encode_request(batch)) if batch else None

        return asyncio.ensure_future(self._run_in_thread(prepare))

    async def _has_pending(self) -> bool:
        return await self._run_in_thread(self._delivery_state.has_pending, self._receiver.key)

    async def _send_batch(self, batch: Batch, body: bytes, queue: WriteQueue) -> None:
        """Send a batch until it is accepted; samples that the receiver rejects are isolated by bisection, and dropped."""
        encoded, parts, dropped = body, [batch], 0
        while parts:
            part = parts.pop()
            rejection = await self._send_until_answered(encoded or await self._run_in_thread(_encode_request, part), queue)
            encoded = b""
            if rejection is None:
                self._record_accepted(part)
            elif part.size == 1:
                self._consecutive_rejections += 1
                dropped += 1
            elif (
                self._consecutive_rejections >= MAX_CONSECUTIVE_REJECTIONS
                and await self._send_until_answered(_encode_request(part.select_newest()), queue) is not None
            ):
                dropped += part.size
            else:
                parts += reversed(part.split())
        self.stats.refused += dropped
        self.stats.pending -= dropped
        if dropped:
            log.debug("remote write to %s: %d sample(s) dropped", self._receiver.target, dropped)

    def _record_accepted(self, batch: Batch) -> None:
        self._consecutive_rejections = 0
        self.stats.sent += batch.size
        self.stats.pending -= batch.size

    async def _send_until_answered(self, body: bytes, queue: WriteQueue) -> str | None:
        """Send until the samples are accepted or rejected; return None, or the reason of the rejection."""
        attempts = 0
        while True:
            result = await self._client.send(body)
            if result.outcome is SendOutcome.ACCEPTED:
                self._record_success()
                return None
            if result.outcome is SendOutcome.SAMPLES_REJECTED:
                self.stats.up = True
                self._log_once(f"the receiver rejected samples, dropping them: {result.reason}")
                return result.reason
            self.stats.up = False
            self._log_once(result.reason)
            attempts += 1
            await self._clock.sleep(self._choose_delay(result, attempts))
            await self._update_pending(queue, min_interval=PENDING_COUNT_INTERVAL)

    def _record_success(self) -> None:
        if self.stats.up is False:
            log.info("remote write to %s: the receiver accepts samples again", self._receiver.target)
            self._last_logged = ""
        self.stats.up, self.stats.last_success_ms = True, to_ms(self._clock.now())

    def _choose_delay(self, result: SendResult, attempts: int) -> timedelta:
        if result.retry_after is not None:
            return min(max(result.retry_after, MIN_RETRY_DELAY), MAX_RETRY_AFTER)
        initial, maximum = (
            (MIN_RETRY_DELAY, MAX_RETRY_DELAY)
            if result.outcome is SendOutcome.RETRY
            else (MIN_REJECTED_DELAY, MAX_REJECTED_DELAY)
        )
        return min(initial * 2.0 ** min(attempts - 1, 20), maximum) * (1 + self._jitter() / 4)

    def _log_once(self, reason: str) -> None:
        """Log a problem, once."""
        if reason != self._last_logged:
            self._last_logged = reason
            log.warning("remote write to %s: %s", self._receiver.target, reason)

    async def _update_pending(self, queue: WriteQueue, min_interval: timedelta = timedelta(0)) -> None:
        now = to_ms(self._clock.now())
        if abs(now - self._counted_at) >= _to_milliseconds(min_interval):
            self._counted_at = now
            with suppress(LedgerError):
                self.stats.pending = await self._run_in_thread(_count_pending, self._ledger, queue, now)

    async def _run_in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def _encode_request(batch: Batch) -> bytes:
    return compress(batch.encode())


def _count_pending(ledger: Ledger, queue: WriteQueue, now: int) -> int:
    with ledger.snapshot() as snapshot:
        return queue.count_pending(snapshot, now)


def _to_milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
