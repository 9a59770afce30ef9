"""Fluvius, simulated: the sign-in, the data of 2025 and of 2024, and the truth of an invented household behind both."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from exporter.demo.base import Handler, Simulation, utc_now
from exporter.demo.fluvius import signin
from exporter.demo.fluvius.data import Data
from exporter.demo.fluvius.faults import BODIES, changed
from exporter.demo.fluvius.household import BRUSSELS, CUBIC_METRES, DAY, INJECTED, NIGHT, Code, Device, Place, shown, steps

SOLAR, FLAT, GAS = "541448820000000017", "541448820000000024", "541448820000000031"
EVER = datetime(9999, 12, 30, 23, tzinfo=UTC)
YEARS = timedelta(days=2 * 365)


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount that is true now: register, direction and unit in words, [start, end) in UTC."""

    ean: str
    register: str
    direction: str
    unit: str
    start: datetime
    end: datetime
    value: float


class FluviusSimulation(Simulation):
    """Two years of two electricity connections and one of gas.

    The first has solar panels, day and night registers, and a meter replaced at `swapped`; its quarter-hours and the gas
    hours are switched on since `intervals_since`. The second has a single register and no intervals.
    """

    portal: ClassVar[str] = "fluvius"

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        since: date | None = None,
        swapped: datetime | None = None,
        intervals_since: date | None = None,
    ) -> None:
        super().__init__(clock)
        today = clock().astimezone(BRUSSELS).date()
        since = since or today - YEARS
        enabled = intervals_since or today - timedelta(days=90)
        swap = swapped or datetime(today.year, today.month, today.day, 9, 30, tzinfo=UTC) - timedelta(days=130)
        begin = datetime(since.year, since.month, since.day, tzinfo=UTC) - timedelta(days=1000)
        self.sign_in = signin.SignIn(clock)
        self.places = (
            Place(
                SOLAR,
                "electricity",
                (Device("1SAG1100000017", begin, swap), Device("1SAG3200000018", swap, EVER)),
                since,
                enabled,
                split=True,
                solar=True,
            ),
            Place(FLAT, "electricity", (Device("1SAG3200000024", begin, EVER),), since),
            Place(GAS, "gas", (Device("7FLO2100000031", begin, EVER),), since, enabled),
        )
        self.data = Data(self.places, clock)

    def routes(self, app: web.Application) -> None:
        """Add the portal's addresses."""
        self.sign_in.routes(app)
        app.router.add_get("/verbruik/api/{kind:(?:meter-measurement|consumption)-[a-z]+}/{ean}", self._ask)

    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give the configuration of the one account."""
        meters = [
            {
                "ean": place.ean,
                "serial": [device.serial for device in place.devices],
                "commodity": place.commodity,
                "intervals": place.intervals_since is not None,
            }
            for place in self.places
        ]
        login = {"username": signin.USERNAME, "password": self.sign_in.password, "portal_url": url, "identity_url": url}
        return [{"name": "demo-power", "portal": self.portal, **login, "meters": meters}]

    def aliases(self) -> dict[str, str]:
        """Return the names of the connections."""
        return {SOLAR: "home", FLAT: "studio", GAS: "home gas"}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account under the name that somebody at home would choose."""
        return super().demo_account(url) | {"name": "home-power"}

    def true_days(self, ean: str, first: date, last: date) -> list[Amount]:
        """Give what the portal knows by now of the days [first, last]: estimates are true until they are corrected."""
        place, found = self.data.places[ean], []
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
            sums: dict[Code, float] = {}
            for device in place.devices if self.data.is_out(place, day) else ():
                for code, amount in self.data.amounts(place, device, day)[0].items():
                    sums[code] = round(sums.get(code, 0) + amount, 4)
            found += [_amount(place, code, place.edge(day), place.edge(day + timedelta(days=1)), sums[code]) for code in sums]
        return found

    def true_intervals(self, ean: str, day: date) -> list[Amount]:
        """Give what the portal knows by now of one day, by quarter-hours or gas hours."""
        place = self.data.places[ean]
        if place.intervals_since is None or day < place.intervals_since or not self.data.is_out(place, day):
            return []
        return [
            _amount(place, code, at, at + place.step(), shown(place, code[2], amount))
            for at, amounts in steps(place, day)
            for code, amount in amounts.items()
        ]

    def true_peak(self, ean: str, month: date) -> tuple[float, datetime] | None:
        """Give the highest quarter-hour of a month by now: kW and its start; of two meters the higher."""
        place = self.data.places[ean]
        found = [peak for device in place.devices if (peak := self.data.peak(place, device, month.replace(day=1)))]
        return max(found, key=lambda one: one[0], default=None)

    async def fail(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Know this portal's own faults beside those of all: see `faults`."""
        if fault in BODIES:
            return BODIES[fault]()
        answer = await handler(request)
        if isinstance(answer, web.Response) and (other := changed(fault, answer)):
            return other
        return await super().fail(fault, request, handler)

    async def _ask(self, request: web.Request) -> web.Response:
        if not self.sign_in.admits(request.headers.get("Authorization", "")):
            return web.Response(status=401)
        return self.data.answer(request.match_info["kind"], request.match_info["ean"], dict(request.query))


def _amount(place: Place, code: Code, start: datetime, end: datetime, value: float) -> Amount:
    direction, register, unit = code
    name = {DAY: "day", NIGHT: "night"}.get(register, "total")
    if place.commodity == "gas":
        name = "volume" if unit == CUBIC_METRES else "energy"
    return Amount(
        place.ean,
        name,
        "injection" if direction == INJECTED else "consumption",
        "m³" if unit == CUBIC_METRES else "kWh",
        start,
        end,
        value,
    )
