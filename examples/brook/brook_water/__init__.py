"""Brook Water, an invented portal: the worked example of a portal that a package of its own brings."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from brook_water.answers import LOCAL, GrantAnswer, bare, parse_days, parse_meter
from exporter.answer import Answer
from exporter.errors import LoginError, ResponseError
from exporter.model import Discovery, Finding, Index, Inventory, Reading, Told, Unit
from exporter.portals.base import Call, Duration, Piece, Portal, Wanted, understand
from exporter.session import Session
from exporter.tokens import Token, Tokens

DAY = timedelta(days=1)
LATE = 7
"""So many days may still come, or be corrected: each visit reads them all."""
MONTH = 31
"""The most days that Brook gives in one call."""


class Brook(Portal):
    """A contract at Brook Water: the index of its meter, and the volume of every day."""

    zone: ClassVar[ZoneInfo] = LOCAL
    least_every: ClassVar[timedelta] = timedelta(minutes=30)
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "portal_url")
    calls: ClassVar[Mapping[str, Call]] = {
        "meter": Call("The meter of the contract."),
        "days": Call(
            "Days of the contract.", {"from": "first day, like 2031-03-09", "to": "last day"}, frozenset({"from", "to"})
        ),
    }

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    contract: Annotated[str, Field(pattern="^C-[0-9]+$", description="The number of the contract, as on the bill: C-1042.")]
    every: Annotated[Duration, Field(description="Distance between visits; the meter is read at night.")] = timedelta(hours=6)
    portal_url: Annotated[str, Field(pattern="^https?://[^/]+$", description="Address of the portal.")] = "https://brook.example"

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Tell the index, the leak flag and the last days; what comes late, or is corrected, lands on its own day."""
        today = session.now.astimezone(LOCAL).date()
        meter = await self._meter(session)
        days = await self._days(session, today - LATE * DAY, today - DAY)
        for told in parse_meter(self.contract, meter.json(), session.now):
            yield told
        for told in parse_days(self.contract, days.json(), today):
            yield told
        yield Inventory((bare(self.contract).point,))

    async def discover(self, session: Session) -> Discovery:
        """Look at the contract; Brook has no list of contracts."""
        answer = await self._meter(session)
        index = next(told for told in parse_meter(self.contract, answer.json(), session.now) if isinstance(told, Index))
        facts = {"meter": index.register.point.meter, "index": f"{index.value:.3f} {Unit.M3}"}
        return Discovery((Finding(f"contract {self.contract}", facts),), f"contract: {self.contract}")

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give Brook's own answer."""
        if call == "meter":
            return (await self._meter(session)).json()
        return (await self._days(session, keys["from"], keys["to"])).json()

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List the calls into the past: a month each, newest first; Brook keeps two years."""
        yesterday = session.now.astimezone(LOCAL).date() - DAY
        oldest, day = max(first or date.min, yesterday - 730 * DAY), min(last or yesterday, yesterday)
        found = []
        while day >= oldest:
            start = max(day.replace(day=1), oldest)
            found.append(Piece(f"{self.contract}/{start}/{day}", self.contract, start, day))
            day = start - DAY
        return found

    async def past(self, session: Session, piece: Piece) -> Sequence[Reading]:
        """Read the days of one piece."""
        answer = await self._days(session, piece.first, piece.last)
        return parse_days(self.contract, answer.json(), session.now.astimezone(LOCAL).date())

    async def _meter(self, session: Session) -> Answer:
        return await self._ask(session, "meter", {})

    async def _days(self, session: Session, first: date | str, last: date | str) -> Answer:
        return await self._ask(session, "days", {"from": str(first), "to": str(last)})

    async def _ask(self, session: Session, what: str, query: Mapping[str, str]) -> Answer:
        """Ask about the contract, with a token that is kept for as long as it lives, over restarts too."""

        async def ask(token: Token) -> Answer:
            url = f"{self.portal_url}/contracts/{self.contract}/{what}"
            return await session.get(url, params=query, headers={"Authorization": f"Bearer {token.value}"}, what=what)

        answer = await Tokens(session, lambda _: self._log_in(session)).call(ask)
        if answer.status == 404:
            raise ResponseError("contract: this login has no contract of that number")
        return answer

    async def _log_in(self, session: Session) -> Token:
        form = {"user": self.username, "pass": self.password.get_secret_value()}
        answer = await session.post(f"{self.portal_url}/login", data=form)
        if answer.status in (401, 403):
            raise LoginError("Brook refuses user name or password")
        grant = understand(GrantAnswer, answer.json(), "the login")
        return Token(grant.token, session.now + timedelta(seconds=grant.seconds))
