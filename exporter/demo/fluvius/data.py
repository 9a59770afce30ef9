"""The data of the simulated portal in both its forms, that of 2025 and that of 2024, strict about what is asked."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.demo.fluvius.household import (
    BRUSSELS,
    DAY,
    ESTIMATED,
    GOOD,
    INJECTED,
    KWH,
    NIGHT,
    TAKEN,
    TOTAL,
    Code,
    Device,
    Place,
    day_peak,
    day_sums,
    estimate,
    of_device,
    shown,
)

ONE_DAY, LAST = timedelta(days=1), timedelta(milliseconds=1)
REGISTERS: tuple[Code, ...] = tuple((t, dc, KWH) for t in (TAKEN, INJECTED) for dc in (TOTAL, DAY, NIGHT))
Record = dict[str, Any]
Window = tuple[datetime, datetime]


class BadRequestError(Exception):
    """A request in a form that the portal does not take."""


class Data:
    """Everything the portal answers about its places."""

    def __init__(self, places: tuple[Place, ...], clock: Callable[[], datetime]) -> None:
        self.places = {place.ean: place for place in places}
        self.clock = clock

    def answer(self, kind: str, ean: str, query: dict[str, str]) -> web.Response:
        """Answer one of the four addresses."""
        place = self.places.get(ean)
        if place is None:
            return web.Response(status=403)
        try:
            found = {
                "meter-measurement-history": self._history,
                "meter-measurement-spikes": self._spikes,
                "consumption-histories": self._old_history,
                "consumption-spikes": self._old_spikes,
            }[kind](place, query)
        except BadRequestError as error:
            problem = {"title": "One or more validation errors occurred.", "status": 400, "errors": {"query": [str(error)]}}
            return web.json_response(problem, status=400, content_type="application/problem+json")
        return web.json_response(found[::-1])

    def days(self, place: Place, start: datetime, end: datetime) -> Iterator[date]:
        """Give the metering days within a window that the portal shows by now, also those it has no values for yet."""
        day = max(place.since, place.day_of(start))
        while place.edge(day + ONE_DAY) <= min(end, self.clock()):
            if place.edge(day) >= start and self.clock() >= place.due(day):
                yield day
            day += ONE_DAY

    def is_out(self, place: Place, day: date) -> bool:
        """Whether a day has its values by now."""
        return place.since <= day and self.clock() >= place.published(day)

    def amounts(self, place: Place, device: Device, day: date) -> tuple[dict[Code, float], int]:
        """Give a device's amounts of a day as shown now, and their state of validation."""
        sums, guessed = day_sums(place, device, day), place.estimated(day, self.clock())
        sums = estimate(sums) if guessed else sums
        return {code: shown(place, code[2], amount) for code, amount in sums.items()}, ESTIMATED if guessed else GOOD

    def peak(self, place: Place, device: Device, month: date) -> tuple[float, datetime] | None:
        """Give the highest quarter-hour of a month in kW, as far as its days are out."""
        days = (month + timedelta(days=n) for n in range((_next(month) - month).days))
        found = [peak for day in days if self.is_out(place, day) and (peak := day_peak(place, device, day))]
        best = max(found, key=lambda one: (one[0], -one[1].timestamp()), default=None)
        return (best[0] / 1000, best[1]) if best else None

    def _history(self, place: Place, query: dict[str, str]) -> list[Record]:
        window, device = _local(query), _device(place, query)
        if device is None:
            return []
        code = query.get("granularity")
        if code == "4":
            return [record for day in self.days(place, *window) if (record := self._day(place, device, day))]
        sub_daily = "2" if place.commodity == "gas" else "1"
        day = place.day_of(window[0])
        whole = window == (place.edge(day), place.edge(day + ONE_DAY))
        if (
            code != sub_daily
            or not whole
            or place.intervals_since is None
            or day < place.intervals_since
            or not self.is_out(place, day)
        ):
            return []
        return [self._interval(place, at, amounts) for at, amounts in of_device(place, device, day)]

    def _day(self, place: Place, device: Device, day: date) -> Record | None:
        amounts, state = self.amounts(place, device, day)
        if not amounts:
            return None
        if not self.is_out(place, day):
            amounts = {}
        entries = [_entry(code, amount, state) for code, amount in amounts.items()]
        if place.commodity != "gas":
            entries += [_entry(code, 0.0, 0) for code in REGISTERS if code not in amounts]
        return _record(place.edge(day), place.edge(day + ONE_DAY), entries if amounts else None)

    def _interval(self, place: Place, at: datetime, amounts: Any) -> Record:
        entries = [_entry(code, shown(place, code[2], amount), GOOD) for code, amount in amounts.items()]
        return _record(at, at + place.step(), entries)

    def _spikes(self, place: Place, query: dict[str, str]) -> list[Record]:
        if "granularity" in query:
            raise BadRequestError("granularity")
        device = _device(place, query)
        found = []
        for month, (power, at) in self._peaks(place, device, _local(query)) if device else ():
            entry = _entry((TAKEN, TOTAL, 4), power, GOOD) | {"sst": _utc(at), "set": _utc(at + timedelta(minutes=15))}
            found.append(_record(place.edge(month), place.edge(_next(month)), [entry]))
        return found

    def _peaks(self, place: Place, device: Device, window: Window) -> Iterator[tuple[date, tuple[float, datetime]]]:
        month = max(place.since, place.day_of(window[0])).replace(day=1)
        while place.commodity != "gas" and place.edge(month) < window[1]:
            if place.edge(month) >= window[0] and (peak := self.peak(place, device, month)):
                yield month, peak
            month = _next(month)

    def _old_history(self, place: Place, query: dict[str, str]) -> list[Record]:
        window = _old_window(query)
        if query.get("granularity") != "3":
            return []
        return [
            _meter(
                device, [self._old_day(place, device, day) for day in self.days(place, *window) if day_sums(place, device, day)]
            )
            for device in place.devices
        ]

    def _old_day(self, place: Place, device: Device, day: date) -> Record:
        amounts, state = self.amounts(place, device, day) if self.is_out(place, day) else ({}, 0)
        record: Record = {"dt": False, "d": _utc(place.edge(day)), "de": _utc(place.edge(day + ONE_DAY))}
        for name, code in (
            ("oh", (1, 1, 3)),
            ("ol", (1, 2, 3)),
            ("ih", (2, 1, 3)),
            ("il", (2, 2, 3)),
            ("ok", (1, 0, 3)),
            ("om", (1, 0, 5)),
        ):
            there = code in amounts and (place.commodity == "gas") == (name in ("ok", "om"))
            record |= {name: amounts[code] if there else 0, f"{name}vs": state if there else 0}
        return record | {"okgcf": None}

    def _old_spikes(self, place: Place, query: dict[str, str]) -> list[Record]:
        window = _old_window(query)
        return [
            _meter(device, [_old_spike(place, month, *peak) for month, peak in self._peaks(place, device, window)])
            for device in place.devices
        ]


def _old_spike(place: Place, month: date, power: float, at: datetime) -> Record:
    span = {"d": _utc(place.edge(month)), "de": _utc(place.edge(_next(month)))}
    return span | {"o": power, "ovs": GOOD, "tscs": _utc(at), "tecs": _utc(at + timedelta(minutes=15))}


def _meter(device: Device, values: list[Record]) -> Record:
    return {"sn": device.serial, "mdf": _utc(device.mounted), "mdu": _utc(device.removed), "val": values}


def _record(start: datetime, end: datetime, entries: list[Record] | None) -> Record:
    return {"d": _utc(start), "de": _utc(end), "v": entries}


def _entry(code: Code, amount: float, state: int) -> Record:
    return {"dc": code[1], "t": code[0], "st": 0, "v": amount, "vs": state, "u": code[2], "gcuv": None}


def _device(place: Place, query: dict[str, str]) -> Device | None:
    serial = query.get("meterSerialNumber", "")
    if serial != serial.strip():
        raise BadRequestError("meterSerialNumber")
    return next((device for device in place.devices if device.serial == serial), None)


def _local(query: dict[str, str]) -> Window:
    """Read a window of local times: each with the offset of that very moment, the end with its last millisecond."""
    if query.get("asServiceProvider") != "false":
        raise BadRequestError("asServiceProvider")
    ends = []
    for key in ("historyFrom", "historyUntil"):
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+]\d\d:\d\d", text := query.get(key, "")):
            raise BadRequestError(key)
        at = datetime.fromisoformat(text)
        if at.utcoffset() != at.astimezone(BRUSSELS).utcoffset():
            raise BadRequestError(key)
        ends.append(at.astimezone(UTC))
    return ends[0], ends[1] + LAST


def _old_window(query: dict[str, str]) -> Window:
    ends = [query.get("historyFrom", ""), query.get("historyUntil", "")]
    if query.get("asServiceProvider") != "false" or not all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", end) for end in ends
    ):
        raise BadRequestError("historyFrom")
    return datetime.fromisoformat(ends[0]), datetime.fromisoformat(ends[1])


def _next(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
