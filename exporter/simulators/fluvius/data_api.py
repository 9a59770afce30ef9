"""The data APIs of the simulated portal, of 2025 and of 2024; strict about requests."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.simulators.fluvius.usage_points import (
    BRUSSELS,
    CONSUMPTION,
    DAY,
    ESTIMATED,
    INJECTION,
    KWH,
    NIGHT,
    TOTAL,
    VALIDATED,
    MountedMeter,
    RegisterCode,
    SimulatedUsagePoint,
    find_day_peak,
    list_intervals,
    overestimate,
    sum_day,
    to_shown_value,
)

ONE_DAY, MILLISECOND = timedelta(days=1), timedelta(milliseconds=1)
REGISTERS: tuple[RegisterCode, ...] = tuple((t, dc, KWH) for t in (CONSUMPTION, INJECTION) for dc in (TOTAL, DAY, NIGHT))
JsonRecord = dict[str, Any]
TimeRange = tuple[datetime, datetime]


class BadRequestError(Exception):
    """A request that the portal does not accept."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The amounts of a unit on a day: shown times `percent` / 100 before `at`, as they are since."""

    at: datetime
    unit: int
    percent: int


class DataApi:
    """The portal's responses about its usage points.

    `delays` publish days of an EAN later, `corrections` correct them, `missing_intervals` lack intervals by their place.
    """

    def __init__(self, usage_points: tuple[SimulatedUsagePoint, ...], clock: Callable[[], datetime]) -> None:
        self.usage_points = {usage_point.ean: usage_point for usage_point in usage_points}
        self.clock = clock
        self.delays: dict[tuple[str, date], timedelta] = {}
        self.corrections: dict[tuple[str, date], Correction] = {}
        self.missing_intervals: dict[tuple[str, date], frozenset[int]] = {}

    def handle(self, resource: str, ean: str, query: dict[str, str]) -> web.Response:
        """Return the response of one of the four resources."""
        usage_point = self.usage_points.get(ean)
        if usage_point is None:
            return web.Response(status=403)
        try:
            found = {
                "meter-measurement-history": self._build_history,
                "meter-measurement-spikes": self._build_peaks,
                "consumption-histories": self._build_history_2024,
                "consumption-spikes": self._build_peaks_2024,
            }[resource](usage_point, query)
        except BadRequestError as error:
            problem = {"title": "One or more validation errors occurred.", "status": 400, "errors": {"query": [str(error)]}}
            return web.json_response(problem, status=400, content_type="application/problem+json")
        return web.json_response(found[::-1])

    def list_days(self, usage_point: SimulatedUsagePoint, start: datetime, end: datetime) -> Iterator[date]:
        """Return the metering days of a time range that are shown by now, also those without values yet."""
        day = max(usage_point.since, usage_point.metering_day(start))
        while usage_point.day_start(day + ONE_DAY) <= min(end, self.clock()):
            if usage_point.day_start(day) >= start and self.clock() >= usage_point.due_at(day):
                yield day
            day += ONE_DAY

    def is_published(self, usage_point: SimulatedUsagePoint, day: date) -> bool:
        """Return whether a day has its values by now."""
        published_at = usage_point.published_at(day) + self.delays.get((usage_point.ean, day), timedelta())
        return usage_point.since <= day and self.clock() >= published_at

    def compute_amounts(
        self, usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date
    ) -> tuple[dict[RegisterCode, float], int]:
        """Return a meter's amounts of a day as shown now, and their validation state."""
        sums, is_estimate = sum_day(usage_point, meter, day), usage_point.is_estimated(day, self.clock())
        sums = overestimate(sums) if is_estimate else sums
        shown = {code: self.show_amount(usage_point, day, code, amount) for code, amount in sums.items()}
        return shown, ESTIMATED if is_estimate else VALIDATED

    def show_amount(self, usage_point: SimulatedUsagePoint, day: date, code: RegisterCode, amount: int) -> float:
        """Return an amount as shown now, before or after its correction."""
        if self._is_provisional(usage_point, day, code):
            amount = amount * self.corrections[usage_point.ean, day].percent // 100
        return to_shown_value(usage_point, code[2], amount)

    def list_shown_intervals(
        self, usage_point: SimulatedUsagePoint, day: date, meter: MountedMeter | None = None
    ) -> Iterator[tuple[datetime, dict[RegisterCode, float]]]:
        """Return the intervals of a day as shown now, of one meter or of all."""
        missing = self.missing_intervals.get((usage_point.ean, day), frozenset())
        for place, (at, amounts) in enumerate(list_intervals(usage_point, day)):
            if place not in missing and (meter is None or meter.mounted <= at < meter.removed):
                yield at, {code: self.show_amount(usage_point, day, code, amount) for code, amount in amounts.items()}

    def _is_provisional(self, usage_point: SimulatedUsagePoint, day: date, code: RegisterCode) -> bool:
        correction = self.corrections.get((usage_point.ean, day))
        return correction is not None and correction.unit == code[2] and self.clock() < correction.at

    def find_peak(self, usage_point: SimulatedUsagePoint, meter: MountedMeter, month: date) -> tuple[float, datetime] | None:
        """Return the highest quarter-hour of a month in kW, of the days published so far."""
        days = (month + timedelta(days=n) for n in range((_next_month(month) - month).days))
        found = [peak for day in days if self.is_published(usage_point, day) and (peak := find_day_peak(usage_point, meter, day))]
        best = max(found, key=lambda peak: (peak[0], -peak[1].timestamp()), default=None)
        return (best[0] / 1000, best[1]) if best else None

    def _build_history(self, usage_point: SimulatedUsagePoint, query: dict[str, str]) -> list[JsonRecord]:
        window, meter = _parse_local_query(query), _find_meter(usage_point, query)
        if meter is None:
            return []
        code = query.get("granularity")
        if code == "4":
            return [
                record for day in self.list_days(usage_point, *window) if (record := self._build_day(usage_point, meter, day))
            ]
        sub_daily = "2" if usage_point.commodity == "gas" else "1"
        day = usage_point.metering_day(window[0])
        whole = window == (usage_point.day_start(day), usage_point.day_start(day + ONE_DAY))
        if (
            code != sub_daily
            or not whole
            or usage_point.intervals_since is None
            or day < usage_point.intervals_since
            or not self.is_published(usage_point, day)
        ):
            return []
        return [
            self._build_interval(usage_point, day, at, amounts)
            for at, amounts in self.list_shown_intervals(usage_point, day, meter)
        ]

    def _build_day(self, usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date) -> JsonRecord | None:
        amounts, state = self.compute_amounts(usage_point, meter, day)
        if not amounts:
            return None
        if not self.is_published(usage_point, day):
            amounts = {}
        entries = [self._build_value(usage_point, day, code, amount, state) for code, amount in amounts.items()]
        if usage_point.commodity != "gas":
            entries += [_build_value(code, 0.0, 0) for code in REGISTERS if code not in amounts]
        return _build_record(usage_point.day_start(day), usage_point.day_start(day + ONE_DAY), entries if amounts else None)

    def _build_value(
        self, usage_point: SimulatedUsagePoint, day: date, code: RegisterCode, amount: float, state: int
    ) -> JsonRecord:
        value = _build_value(code, amount, state)
        if usage_point.commodity == "gas" and code[2] == KWH and (usage_point.ean, day) in self.corrections:
            value["gcuv"] = "P" if self._is_provisional(usage_point, day, code) else "D"
        return value

    def _build_interval(
        self, usage_point: SimulatedUsagePoint, day: date, at: datetime, amounts: dict[RegisterCode, float]
    ) -> JsonRecord:
        entries = [self._build_value(usage_point, day, code, amount, VALIDATED) for code, amount in amounts.items()]
        return _build_record(at, at + usage_point.interval_length(), entries)

    def _build_peaks(self, usage_point: SimulatedUsagePoint, query: dict[str, str]) -> list[JsonRecord]:
        if "granularity" in query:
            raise BadRequestError("granularity")
        meter = _find_meter(usage_point, query)
        found = []
        for month, (power, at) in self._list_peaks(usage_point, meter, _parse_local_query(query)) if meter else ():
            entry = _build_value((CONSUMPTION, TOTAL, 4), power, VALIDATED) | {
                "sst": _format_utc(at),
                "set": _format_utc(at + timedelta(minutes=15)),
            }
            found.append(_build_record(usage_point.day_start(month), usage_point.day_start(_next_month(month)), [entry]))
        return found

    def _list_peaks(
        self, usage_point: SimulatedUsagePoint, meter: MountedMeter, window: TimeRange
    ) -> Iterator[tuple[date, tuple[float, datetime]]]:
        month = max(usage_point.since, usage_point.metering_day(window[0])).replace(day=1)
        while usage_point.commodity != "gas" and usage_point.day_start(month) < window[1]:
            if usage_point.day_start(month) >= window[0] and (peak := self.find_peak(usage_point, meter, month)):
                yield month, peak
            month = _next_month(month)

    def _build_history_2024(self, usage_point: SimulatedUsagePoint, query: dict[str, str]) -> list[JsonRecord]:
        window = _parse_utc_query(query)
        if query.get("granularity") != "3":
            return []
        return [
            _build_meter_2024(
                meter,
                [
                    self._build_day_2024(usage_point, meter, day)
                    for day in self.list_days(usage_point, *window)
                    if sum_day(usage_point, meter, day)
                ],
            )
            for meter in usage_point.meters
        ]

    def _build_day_2024(self, usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date) -> JsonRecord:
        amounts, state = self.compute_amounts(usage_point, meter, day) if self.is_published(usage_point, day) else ({}, 0)
        record: JsonRecord = {
            "dt": False,
            "d": _format_utc(usage_point.day_start(day)),
            "de": _format_utc(usage_point.day_start(day + ONE_DAY)),
        }
        for name, code in (
            ("oh", (1, 1, 3)),
            ("ol", (1, 2, 3)),
            ("ih", (2, 1, 3)),
            ("il", (2, 2, 3)),
            ("ok", (1, 0, 3)),
            ("om", (1, 0, 5)),
        ):
            has_value = code in amounts and (usage_point.commodity == "gas") == (name in ("ok", "om"))
            record |= {name: amounts[code] if has_value else 0, f"{name}vs": state if has_value else 0}
        return record | {"okgcf": None}

    def _build_peaks_2024(self, usage_point: SimulatedUsagePoint, query: dict[str, str]) -> list[JsonRecord]:
        window = _parse_utc_query(query)
        return [
            _build_meter_2024(
                meter,
                [_build_peak_2024(usage_point, month, *peak) for month, peak in self._list_peaks(usage_point, meter, window)],
            )
            for meter in usage_point.meters
        ]


def _build_peak_2024(usage_point: SimulatedUsagePoint, month: date, power: float, at: datetime) -> JsonRecord:
    span = {"d": _format_utc(usage_point.day_start(month)), "de": _format_utc(usage_point.day_start(_next_month(month)))}
    return span | {"o": power, "ovs": VALIDATED, "tscs": _format_utc(at), "tecs": _format_utc(at + timedelta(minutes=15))}


def _build_meter_2024(meter: MountedMeter, values: list[JsonRecord]) -> JsonRecord:
    return {"sn": meter.serial, "mdf": _format_utc(meter.mounted), "mdu": _format_utc(meter.removed), "val": values}


def _build_record(start: datetime, end: datetime, entries: list[JsonRecord] | None) -> JsonRecord:
    return {"d": _format_utc(start), "de": _format_utc(end), "v": entries}


def _build_value(code: RegisterCode, amount: float, state: int) -> JsonRecord:
    return {"dc": code[1], "t": code[0], "st": 0, "v": amount, "vs": state, "u": code[2], "gcuv": None}


def _find_meter(usage_point: SimulatedUsagePoint, query: dict[str, str]) -> MountedMeter | None:
    serial = query.get("meterSerialNumber", "")
    if serial != serial.strip():
        raise BadRequestError("meterSerialNumber")
    return next((meter for meter in usage_point.meters if meter.serial == serial), None)


def _parse_local_query(query: dict[str, str]) -> TimeRange:
    """Parse a range of local times: each with the offset of its instant, the end with the last millisecond."""
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
    return ends[0], ends[1] + MILLISECOND


def _parse_utc_query(query: dict[str, str]) -> TimeRange:
    ends = [query.get("historyFrom", ""), query.get("historyUntil", "")]
    if query.get("asServiceProvider") != "false" or not all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", end) for end in ends
    ):
        raise BadRequestError("historyFrom")
    return datetime.fromisoformat(ends[0]), datetime.fromisoformat(ends[1])


def _next_month(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _format_utc(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
