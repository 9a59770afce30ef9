"""When each of the meters of a usage point was in place, as far as whole days of intervals have shown it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Self

from exporter.session import Session


@dataclass(frozen=True, slots=True)
class Tenure:
    """What is known of the meters, by their number in the list (the oldest is 0); days as ISO 8601, which sort.

    `alone`: from this day on nothing older was in place; `absent`: on this day it was not mounted yet.
    """

    alone: Mapping[str, str]
    absent: Mapping[str, str]

    @classmethod
    async def recall(cls, session: Session, key: str) -> Self:
        """Give what earlier visits have learned."""
        kept: Mapping[str, Any] = await session.memory.get(key, session.now) or {}
        return cls(kept.get("alone", {}), kept.get("absent", {}))

    async def learn(self, session: Session, key: str, number: int, count: int, day: date) -> None:
        """Keep that one of `count` meters measured a whole day."""
        text = day.isoformat()
        alone = {str(number): min(text, self.alone.get(str(number), text))}
        absent = {str(later): max(text, self.absent.get(str(later), text)) for later in range(number + 1, count)}
        learned = Tenure({**self.alone, **alone}, {**self.absent, **absent})
        if learned != self:
            await session.memory.put(key, asdict(learned))

    def may_have(self, number: int, day: date) -> bool:
        """Whether a meter can have been in place on a day."""
        return day.isoformat() > self.absent.get(str(number), "")

    def is_alone(self, number: int, day: date) -> bool:
        """Whether nothing older than a meter can have been in place on a day."""
        return str(number) in self.alone and day.isoformat() >= self.alone[str(number)]
