"""Enedis simulated: two homes behind Data Connect, the Conso API and both versions of MyElectricalData."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from exporter.demo.base import Handler, Simulation, utc_now
from exporter.demo.enedis.conso import Conso
from exporter.demo.enedis.dataconnect import DataConnect
from exporter.demo.enedis.doors import REFUSAL
from exporter.demo.enedis.homes import PARIS, Block, Home, curve, day_wh, homes, index, peak
from exporter.demo.enedis.myelectricaldata import MedV1, MedV2
from exporter.demo.enedis.source import RefusalError, Source

CLIENT, SECRET = "made-up-client", "made-up-client-secret"  # invented
MED_SECRET = "made-up-med-secret"  # noqa: S105  # invented


class EnedisSimulation(Simulation):
    """All three ways to the same two homes; `producing` has HP and HC, `young` began 400 days ago.

    Faults of its own: `enedis:STATUS:CODE` (a refusal of Enedis, written as each gateway writes it), and
    `rename:OLD:NEW` (a field called otherwise). `source.late` delays days, `source.closed` refuses usage points.
    """

    portal: ClassVar[str] = "enedis"

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self.producing, self.young = homes(clock().astimezone(PARIS).date())
        self.homes: dict[str, Home] = {home.prm: home for home in (self.producing, self.young)}
        self.source = Source(clock, self.homes)
        self.access_ends = clock().replace(microsecond=0) + timedelta(days=1094)
        self.med_tokens = {prm: f"made-up-med-{prm[-2:]}" for prm in self.homes}
        self.conso = Conso(self.source, self.access_ends)
        self.dataconnect = DataConnect(self.source, CLIENT, SECRET)
        self.med_v1 = MedV1(self.source, self.med_tokens, self.access_ends)
        self.med_v2 = MedV2(self.source, MED_SECRET)

    def routes(self, app: web.Application) -> None:
        """Add the paths of all gateways."""
        for gate in (self.conso, self.dataconnect, self.med_v1, self.med_v2):
            gate.routes(app)

    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give an account for each of the three ways; the first, by the Conso API, is plainly called `maison`."""
        ways = {"maison": "conso", "maison-dataconnect": "dataconnect", "maison-myelectricaldata": "myelectricaldata"}
        return [self.account(url, access) | {"name": name} for name, access in ways.items()]

    def aliases(self) -> dict[str, str]:
        """Return the names of both homes."""
        return {self.producing.prm: "house", self.young.prm: "workshop"}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account by Data Connect, whose budget of calls is large enough for two years."""
        return self.account(url, "dataconnect") | {"aliases": self.aliases()}

    def account(self, url: str, access: str, api: str = "") -> dict[str, Any]:
        """Give an account that reads both homes by one of the ways."""
        points: list[dict[str, Any]] = [{"prm": home.prm, "production": home.producing} for home in self.homes.values()]
        account: dict[str, Any] = {"name": "maison", "portal": "enedis", "access": access, "base_url": url}
        account["calls_per_second"] = 5  # nobody but the simulation counts, and a demo is to be quick
        account["aliases"] = self.aliases()
        if api:
            account["api"] = api
        if access == "conso":
            account["token"] = self.conso.token
        elif access == "dataconnect":
            account |= {"client_id": CLIENT, "client_secret": SECRET}
        elif api == "v1":
            points = [point | {"token": self.med_tokens[point["prm"]]} for point in points]
        else:
            account |= {"token": MED_SECRET, "base_url": f"{url}/api"}
        return account | {"usage_points": points}

    def true_day(self, home: Home, day: date, *, producing: bool = False) -> float:
        """Give the energy of a day in kWh."""
        return day_wh(home, producing, day) / 1000

    def true_curve(self, home: Home, day: date, *, producing: bool = False) -> tuple[Block, ...]:
        """Give the load curve of a day."""
        return curve(home, producing, day)

    def true_peak(self, home: Home, day: date) -> tuple[datetime, float]:
        """Give instant and kVA of the highest power of a day."""
        at, va = peak(home, day)
        return at, va / 1000

    def true_index(self, home: Home, day: date, *, producing: bool = False) -> dict[str, float]:
        """Give what the registers show in kWh as a day begins."""
        return {name: wh / 1000 for name, wh in index(home, producing, day).items()}

    async def fail(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Add the faults that only Enedis knows."""
        kind, _, rest = fault.partition(":")
        if kind == "enedis":
            status, _, code = rest.partition(":")
            request[REFUSAL] = RefusalError(code, int(status))
            return await handler(request)
        if kind == "rename":
            old, _, new = rest.partition(":")
            whole = await handler(request)
            assert isinstance(whole, web.Response)
            assert isinstance(whole.body, bytes)
            whole.body = whole.body.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
            return whole
        return await super().fail(fault, request, handler)
