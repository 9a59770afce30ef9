"""Remote write: the senders of all receivers, their metrics, and `history resend`."""

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.history.config import Receiver
from exporter.history.series import Aliases
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger

if TYPE_CHECKING:
    from exporter.history.remote_write_sender import DeliveryStats, Samples

EARLIEST_TIMEZONE = timezone(timedelta(hours=14))
"""The time zone where a day begins first."""


class RemoteWriteManager:
    """The senders of all receivers, each a task of its own."""

    def __init__(self, ledger: Ledger, clock: Clock, user_agent: str = "utility-exporter") -> None:
        self._ledger, self._clock, self._user_agent = ledger, clock, user_agent
        self._running: dict[str, tuple[Receiver, DeliveryStats, asyncio.Task[None]]] = {}
        self._aliases: Aliases = {}

    async def configure(self, receivers: tuple[Receiver, ...], aliases: Aliases) -> None:
        """Deliver to these receivers: unchanged senders are left alone, changed ones resume where they were.

        Raise LedgerError.
        """
        configured = {receiver.key: receiver for receiver in receivers}
        await asyncio.to_thread(self._ledger.get_delivery_state().set_targets, list(configured))
        for key, (receiver, *_) in list(self._running.items()):
            if configured.get(key) != receiver or aliases != self._aliases:
                await self._stop_sender(key)
        self._aliases = aliases
        for key in configured.keys() - self._running.keys():
            self._start_sender(key, configured[key])

    async def stop(self) -> None:
        """Cancel all senders."""
        await asyncio.gather(*(self._stop_sender(key) for key in list(self._running)))

    def collect_samples(self) -> "Samples":
        """Return the metrics of all deliveries."""
        now, samples = self._clock.now(), dict[str, dict[tuple[str, ...], float]]()
        for _, stats, _ in self._running.values():
            for family, values in stats.to_samples(now).items():
                samples.setdefault(family, {}).update(values)
        return samples

    def _start_sender(self, key: str, receiver: Receiver) -> None:
        from exporter.history.remote_write_sender import Sender  # noqa: PLC0415  # costs memory and time at start, and few send anything

        sender = Sender(self._ledger, receiver, self._aliases, self._clock, self._user_agent)
        task = asyncio.create_task(sender.run(), name=f"remote write to {receiver.target}")
        self._running[key] = receiver, sender.stats, task

    async def _stop_sender(self, key: str) -> None:
        *_, task = self._running.pop(key)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def request_resend(ledger: Ledger, receivers: Sequence[Receiver], target: str | None, first_day: date | None) -> list[str]:
    """Request that one receiver, or all, are sent everything from a day on again; return a line for each.

    A running `serve` notices it within a minute. Raise ConfigError for a target that is not configured, and LedgerError.
    """
    names = [receiver.target for receiver in receivers]
    if target is not None and target not in names:
        raise ConfigError(f"history.remote_write has no target {target!r}; it has {', '.join(names) or 'none'}")
    since = to_ms(datetime(first_day.year, first_day.month, first_day.day, tzinfo=EARLIEST_TIMEZONE)) if first_day else 0
    span = f"from {first_day} on" if first_day else "from the beginning"
    lines = []
    for receiver in receivers:
        if target in (None, receiver.target):
            known = ledger.get_delivery_state().request_resend(receiver.key, since)
            lines.append(f"{receiver.target}: " + (f"sent again {span}" if known else "new, everything will be sent"))
    return lines
