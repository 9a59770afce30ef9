"""The curves of the simulated counters: every value follows from the instant, nothing is stored."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate

EPOCH = datetime(2021, 12, 31, 23, tzinfo=UTC)
"""When counting begins: midnight in Prague, new year 2022."""
DAY, HOUR = 86_400, 3600
YEAR = 365.25
_MASK = (1 << 64) - 1


class Profile(StrEnum):
    """When in a day consumption happens."""

    TAP = "tap"
    HEATING = "heating"
    POWER = "power"
    SUN = "sun"


_WEIGHTS = {
    Profile.TAP: (0, 0, 0, 0, 0, 2, 10, 18, 12, 6, 5, 5, 7, 6, 4, 4, 6, 10, 16, 18, 14, 10, 5, 1),
    Profile.HEATING: (3, 3, 3, 3, 4, 6, 8, 8, 6, 4, 4, 3, 3, 3, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3),
    Profile.POWER: (2, 2, 2, 2, 2, 3, 5, 6, 4, 3, 3, 4, 5, 4, 3, 3, 4, 6, 8, 9, 8, 6, 4, 3),
    Profile.SUN: (0, 0, 0, 0, 0, 0, 1, 2, 4, 6, 8, 9, 9, 9, 8, 6, 4, 2, 1, 0, 0, 0, 0, 0),
}
_CUMULATIVE_WEIGHTS = {
    name: [0.0, *accumulate(weight / sum(weights) for weight in weights)] for name, weights in _WEIGHTS.items()
}


def pseudo_random(seed: int, step: int) -> float:
    """Return a number in [0, 1) that depends on its arguments alone."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


@dataclass(frozen=True, slots=True)
class CountingCurve:
    """A value that never decreases: `daily` on a mean day, more in winter by `winter` (from -1 to 1)."""

    daily: float
    winter: float
    profile: Profile

    def value_at(self, seed: int, at: datetime) -> float:
        """Return the value at an instant."""
        day, rest = divmod((at - EPOCH).total_seconds(), DAY)
        hour, part = divmod(rest / HOUR, 1)
        shape = _CUMULATIVE_WEIGHTS[self.profile]
        passed = shape[int(hour)] + part * (shape[int(hour) + 1] - shape[int(hour)])
        before = self._value_at_day(seed, int(day))
        return before + passed * (self._value_at_day(seed, int(day) + 1) - before)

    def _value_at_day(self, seed: int, day: int) -> float:
        season = self.winter * YEAR / math.tau * math.sin(math.tau * (day - 15) / YEAR)
        return self.daily * (day + season + 0.6 * (1 - abs(self.winter)) * pseudo_random(seed, day))


@dataclass(frozen=True, slots=True)
class SumCurve:
    """What several counters of a meter count together, in another unit by `factor`; their numbers are `offsets` away."""

    parts: tuple[CountingCurve, ...]
    offsets: tuple[int, ...]
    factor: float = 1

    def value_at(self, seed: int, at: datetime) -> float:
        """Return the value at an instant."""
        counted = (part.value_at(seed + offset, at) for part, offset in zip(self.parts, self.offsets, strict=True))
        return self.factor * sum(counted)


@dataclass(frozen=True, slots=True)
class HourlyAmountCurve:
    """The amount that `register` counted in the hour before."""

    register: CountingCurve

    def value_at(self, seed: int, at: datetime) -> float:
        """Return the amount of the hour before an instant."""
        return self.register.value_at(seed, at) - self.register.value_at(seed, at - timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class MomentaryCurve:
    """A momentary value around `mean`: highest in the afternoon (`swing`) and in July (`summer`)."""

    mean: float
    swing: float
    summer: float
    noise: float

    def value_at(self, seed: int, at: datetime) -> float:
        """Return the value at an instant."""
        days = (at - EPOCH).total_seconds() / DAY
        daily = self.swing * math.sin(math.tau * (days % 1 - 0.4))
        yearly = self.summer * math.cos(math.tau * (days - 200) / YEAR)
        return self.mean + daily + yearly + self.noise * (pseudo_random(seed, int(days * 24)) - 0.5)


@dataclass(frozen=True, slots=True)
class ContactCurve:
    """A door contact: open in few hours."""

    def value_at(self, seed: int, at: datetime) -> float:
        """Return 1 while it is open, else 0."""
        return float(pseudo_random(seed, int((at - EPOCH).total_seconds() // HOUR)) < 0.06)


Curve = CountingCurve | SumCurve | HourlyAmountCurve | MomentaryCurve | ContactCurve


def list_reading_times(seed: int, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield when a counter is read in [start, end), about hourly and not aligned, and when the portal has the reading."""
    offset = pseudo_random(seed, -1) * HOUR
    first = math.floor(((start - EPOCH).total_seconds() - offset) / HOUR) - 1
    last = math.ceil(((end - EPOCH).total_seconds() - offset) / HOUR)
    for step in range(first, last + 1):
        seconds = step * HOUR + offset + pseudo_random(seed, 2 * step) * 240
        read_at = EPOCH + timedelta(milliseconds=round(seconds * 1000))
        if start <= read_at < end:
            yield read_at, read_at + timedelta(seconds=60 + 400 * pseudo_random(seed, 2 * step + 1))
