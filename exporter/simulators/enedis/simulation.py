"""The simulation of Enedis: two homes behind Data Connect, the Conso API and both versions of MyElectricalData."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from exporter.simulators.base import Handler, Simulation, utc_now
from exporter.simulators.enedis.gateways import (
    REFUSAL_KEY,
    ConsoSimulator,
    DataConnectSimulator,
    MyElectricalDataV1Simulator,
    MyElectricalDataV2Simulator,
)
from exporter.simulators.enedis.homes import (
    PARIS,
    CurveInterval,
    SimulatedHome,
    build_curve,
    build_homes,
    compute_day_wh,
    compute_index,
    find_peak,
)
from exporter.simulators.enedis.source import EnedisRefusalError, EnedisSource

CLIENT_ID, CLIENT_SECRET = "made-up-client", "made-up-client-secret"  # invented
MYELECTRICALDATA_SECRET = "made-up-med-secret"  # noqa: S105  # invented


class EnedisSimulation(Simulation):
    """All gateways to the same two homes; `producer` has HP and HC, `recent_customer` began 400 days ago.

    Faults of its own: `enedis:STATUS:CODE` (a refusal of Enedis, written as each gateway writes it), and
    `rename:OLD:NEW` (a field called otherwise). `source.delays` delays days, `source.refusals` refuses usage points,
    `source.refused_series` one series of one.
    """

    portal: ClassVar[str] = "enedis"

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self.producer, self.recent_customer = build_homes(clock().astimezone(PARIS).date())
        self.homes: dict[str, SimulatedHome] = {home.prm: home for home in (self.producer, self.recent_customer)}
        self.source = EnedisSource(clock, self.homes)
        self.access_expires = clock().replace(microsecond=0) + timedelta(days=1094)
        self.v1_tokens = {prm: f"made-up-med-{prm[-2:]}" for prm in self.homes}
        self.conso = ConsoSimulator(self.source, self.access_expires)
        self.dataconnect = DataConnectSimulator(self.source, CLIENT_ID, CLIENT_SECRET)
        self.myelectricaldata_v1 = MyElectricalDataV1Simulator(self.source, self.v1_tokens, self.access_expires)
        self.myelectricaldata_v2 = MyElectricalDataV2Simulator(self.source, MYELECTRICALDATA_SECRET)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of all gateways."""
        for gateway in (self.conso, self.dataconnect, self.myelectricaldata_v1, self.myelectricaldata_v2):
            gateway.add_routes(app)

    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return an account for each access; the first, by the Conso API, is called `maison`."""
        access_methods = {"maison": "conso", "maison-dataconnect": "dataconnect", "maison-myelectricaldata": "myelectricaldata"}
        return [self.build_account(url, access) | {"name": name} for name, access in access_methods.items()]

    def aliases(self) -> dict[str, str]:
        """Return the names of both homes."""
        return {self.producer.prm: "house", self.recent_customer.prm: "workshop"}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account by Data Connect, whose quota of calls is large enough for two years."""
        return self.build_account(url, "dataconnect") | {"aliases": self.aliases()}

    def build_account(self, url: str, access: str, api: str = "") -> dict[str, Any]:
        """Return an account that reads both homes by one access."""
        points: list[dict[str, Any]] = [{"prm": home.prm, "production": home.is_producer} for home in self.homes.values()]
        account: dict[str, Any] = {"name": "maison", "portal": "enedis", "access": access, "base_url": url}
        account["calls_per_second"] = 5  # only the simulation counts, and a demo should be quick
        account["aliases"] = self.aliases()
        if api:
            account["api"] = api
        if access == "conso":
            account |= {"token": self.conso.token, "base_url": f"{url}/api"}
        elif access == "dataconnect":
            account |= {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        elif api == "v1":
            points = [point | {"token": self.v1_tokens[point["prm"]]} for point in points]
        else:
            account |= {"token": MYELECTRICALDATA_SECRET, "base_url": f"{url}/api"}
        return account | {"usage_points": points}

    def get_true_day(self, home: SimulatedHome, day: date, *, producing: bool = False) -> float:
        """Return the energy of a day in kWh."""
        return compute_day_wh(home, producing, day) / 1000

    def get_true_curve(self, home: SimulatedHome, day: date, *, producing: bool = False) -> tuple[CurveInterval, ...]:
        """Return the load curve of a day."""
        return build_curve(home, producing, day)

    def get_true_peak(self, home: SimulatedHome, day: date) -> tuple[datetime, float]:
        """Return instant and kVA of the highest power of a day."""
        at, va = find_peak(home, day)
        return at, va / 1000

    def get_true_index(self, home: SimulatedHome, day: date, *, producing: bool = False) -> dict[str, float]:
        """Return what the registers show in kWh as a day begins."""
        return {name: wh / 1000 for name, wh in compute_index(home, producing, day).items()}

    async def inject_fault(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Add the faults of Enedis to those of all portals."""
        kind, _, rest = fault.partition(":")
        if kind == "enedis":
            status, _, code = rest.partition(":")
            request[REFUSAL_KEY] = EnedisRefusalError(code, int(status))
            return await handler(request)
        if kind == "rename":
            old, _, new = rest.partition(":")
            response = await handler(request)
            assert isinstance(response, web.Response)
            assert isinstance(response.body, bytes)
            response.body = response.body.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
            return response
        return await super().inject_fault(fault, request, handler)
