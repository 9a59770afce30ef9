"""Remote write: a sender for each receiver, loaded where there is one."""

import asyncio

from exporter.clock import Clock
from exporter.history.receivers import Receiver
from exporter.history.send_health import Delivery, Samples
from exporter.history.series import Aliases
from exporter.ledger import Ledger


class Senders:
    """All receivers' senders, each a task of its own."""

    def __init__(self, ledger: Ledger, clock: Clock, agent: str = "utility-exporter") -> None:
        self._ledger, self._clock, self._agent = ledger, clock, agent
        self._running: dict[str, tuple[Receiver, Delivery, asyncio.Task[None]]] = {}
        self._aliases: Aliases = {}

    async def follow(self, receivers: tuple[Receiver, ...], aliases: Aliases) -> None:
        """Deliver to these receivers: unchanged ones go on untouched, changed ones go on where they were.

        Raises LedgerError.
        """
        wanted = {receiver.key: receiver for receiver in receivers}
        await asyncio.to_thread(self._ledger.deliveries().follow, list(wanted))
        for key, (receiver, *_) in list(self._running.items()):
            if wanted.get(key) != receiver or aliases != self._aliases:
                await self._end(key)
        self._aliases = aliases
        for key in wanted.keys() - self._running.keys():
            self._begin(key, wanted[key])

    async def stop(self) -> None:
        """End all requests under way."""
        await asyncio.gather(*(self._end(key) for key in list(self._running)))

    def samples(self) -> Samples:
        """Say how all of them fare."""
        now, said = self._clock.now(), Samples()
        for _, delivery, _ in self._running.values():
            for family, values in delivery.samples(now).items():
                said.setdefault(family, {}).update(values)
        return said

    def _begin(self, key: str, receiver: Receiver) -> None:
        from exporter.history.send import Sender  # noqa: PLC0415  # what sends takes room and a start's time, and most send nothing

        sender = Sender(self._ledger, receiver, self._aliases, self._clock, self._agent)
        task = asyncio.create_task(sender.run(), name=f"remote write to {receiver.target}")
        self._running[key] = receiver, sender.delivery, task

    async def _end(self, key: str) -> None:
        *_, task = self._running.pop(key)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
