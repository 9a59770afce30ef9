"""CEM (Softlink, Czech Republic): the counters of a house or a whole city under one login.

One address with function numbers, JSON only. Lists of objects, meters, counters and types are kept for hours and days;
a visit then asks only for the last values, in batches.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from exporter.errors import PortalError, RateLimitError
from exporter.model import Commodity, Discovery, Reading, Shortfall, Told
from exporter.portals.base import Call, Duration, Piece, Portal, Wanted
from exporter.portals.cem import history
from exporter.portals.cem.answers import Values, all_values, last_values
from exporter.portals.cem.api import Api
from exporter.portals.cem.discovery import discovery
from exporter.portals.cem.estate import Choice
from exporter.portals.cem.holdings import FUNCTIONS, NATURES, Holdings
from exporter.portals.cem.readings import Heard, LastValues, indexes
from exporter.session import Session

Few = Annotated[int, Field(ge=1, le=8)]


class Pick(BaseModel):
    """Numbers to take, or to leave out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    include: Annotated[frozenset[int], Field(description="The ones to take; all when empty.")] = frozenset()
    exclude: Annotated[frozenset[int], Field(description="The ones to leave out.")] = frozenset()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := self.include & self.exclude:
            raise ValueError(f"{min(both)} is both included and excluded")
        return self


class Cem(Portal):
    """A login at CEM."""

    zone: ClassVar[ZoneInfo] = ZoneInfo("Europe/Prague")
    patience: ClassVar = dict.fromkeys(Commodity, timedelta(days=1))
    """Counters send by the hour."""
    largest: ClassVar[int] = 64 * 1024 * 1024  # a city's 100,000 counters come in one answer
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "base_url")
    calls: ClassVar[Mapping[str, Call]] = {
        "user_info": Call("who holds the account (id=9)"),
        "objects": Call("objects: houses, flats, installation points (id=23)"),
        "meters": Call("meters (id=108)", {"mis_id": "number of an object"}),
        "counters": Call("counters with their last values (id=107)", {"me_id": "number of a meter"}),
        "counter_last": Call("last reading of a counter (id=8)", {"var_id": "number of a counter"}, frozenset({"var_id"})),
        "counter_history": Call(
            "readings of a counter (id=3)",
            {"var_id": "number of a counter", "from": "first day, like 2031-03-09", "to": "last day"},
            frozenset({"var_id", "from", "to"}),
        ),
        "types": Call("counter types and their units (id=222)"),
        "value_types": Call("a code list (id=11)", {"cis": "number of the list: 50 kinds of value (default), 135 devices"}),
    }

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(description="Its password.")]
    base_url: Annotated[str, Field(description="Address of the API, host and path.")] = "https://cemapi.unimonitor.eu/api"
    every: Annotated[Duration, Field(description="Distance between visits.")] = timedelta(minutes=30)
    ca_file: Annotated[Path | None, Field(description="Certificates to trust instead of the system's (PEM).")] = None
    verify_tls: Annotated[
        bool, Field(description="Check the portal's certificate. Without it anybody on the way can read the password.")
    ] = True
    metadata_every: Annotated[Duration, Field(description="How often account, objects, meters and counters are asked.")] = (
        timedelta(hours=12)
    )
    types_every: Annotated[Duration, Field(description="How often counter types and units are asked.")] = timedelta(days=7)
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="Counters asked in one call.")] = 500
    parallel: Annotated[Few, Field(description="Calls under way at the same time.")] = 2
    counters: Annotated[Pick, Field(description="Counters by var_id; include is a wish and shows hidden ones too.")] = Pick()
    objects: Annotated[Pick, Field(description="Objects by mis_id, with all that lies below them.")] = Pick()
    include_states: Annotated[bool, Field(description="Show states, such as door contacts.")] = False
    include_removed: Annotated[bool, Field(description="Show the counters of meters that were taken away.")] = False
    history_days: Annotated[int, Field(ge=1, le=366, description="Most days asked in one call into the past.")] = 14
    history_limit: Annotated[Duration, Field(description="How far back an import goes.")] = timedelta(days=3 * 365)
    history_gap: Annotated[Duration, Field(description="How long nothing may come before an import ends.")] = timedelta(days=90)
    history_by: Annotated[
        Literal["auto", "account", "counter"], Field(description="Ask the past of all counters at once, or of each one.")
    ] = "auto"

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("must be like https://host/path, without user, query or fragment")
        return base_url.rstrip("/")

    def tls(self) -> tuple[str | None, bool]:
        """Give the account's own certificate authorities, and whether to verify at all."""
        return str(self.ca_file) if self.ca_file else None, self.verify_tls

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Tell holder, inventory and the last value of every chosen counter, in the instant that the portal states."""
        holdings = self._holdings(session)
        roster, stated = await holdings.roster(self._selection())
        if holder := await holdings.holder():
            yield holder
        yield roster.inventory
        for note in roster.notes:
            yield note
        asking = LastValues(holdings.api, batch_size=self.batch_size, parallel=self.parallel)
        heard = Heard(roster)
        async for values in asking.ask(list(roster.lines)):
            for told in heard.tell(values):
                yield told
        failures = [*asking.failures, *holdings.failures]
        if asking.failures and not heard.parts:
            raise _worst(failures)
        for told in heard.rest(session.now, stated):
            yield told
        if failures:
            yield Shortfall(_worst(failures))

    async def discover(self, session: Session) -> Discovery:
        """Look at all objects, meters and counters, hidden ones too; last values as the list of counters states them."""
        holdings = self._holdings(session, renew=True)
        estate = await holdings.estate(self._selection())
        return discovery(estate, await holdings.natures(), [str(failure) for failure in holdings.failures])

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give the portal's own answer; keys that the call does not know are not sent."""
        known = {key: value for key, value in keys.items() if key in self.calls[call].keys}
        return await self._api(session).get(FUNCTIONS[call], {"cis": NATURES} | known if call == "value_types" else known)

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List the calls into the past, newest first; how far the portal's memory reaches is not known."""
        roster, _ = await self._holdings(session).roster(self._selection())
        today = session.now.astimezone(self.zone).date()
        last = min(last or today, today)
        first = first or today - self.history_limit
        days = history.days_of_all(roster.counters, len(roster.lines), self.history_days)
        if self.history_by == "account" or (days and self.history_by == "auto"):
            return list(history.pieces_of_all(history.spans(first, last, days or self.history_days), self._selection(), today))
        return list(history.pieces_of_each(history.spans(first, last, self.history_days), roster.lines, today))

    async def past(self, session: Session, piece: Piece) -> list[Reading]:
        """Ask id=3 for one counter or id=20 for all; EndOfPastError after a long time of nothing."""
        holdings = self._holdings(session)
        roster, _ = await holdings.roster(self._selection())
        values = await self._ask_past(holdings.api, piece)
        readings: list[Reading] = list(indexes(values, roster.lines))
        await history.note_emptiness(session, piece, not readings, self.history_gap)
        return readings

    async def _ask_past(self, api: Api, piece: Piece) -> Values:
        days = history.days_asked(piece)
        if counter := piece.ask.get("var_id"):
            answer = await api.get(3, {"var_id": str(counter), **days})
            return last_values(answer, api.session.now, asked=int(counter), where="id=3")
        return all_values(await api.get(20, days), api.session.now)

    def _api(self, session: Session) -> Api:
        return Api(session, self.base_url, self.username, self.password)

    def _holdings(self, session: Session, *, renew: bool = False) -> Holdings:
        return Holdings(self._api(session), self.metadata_every, self.types_every, personal=self.personal_data, renew=renew)

    def _selection(self) -> Choice:
        return Choice(
            counters=self.counters.include,
            not_counters=self.counters.exclude,
            objects=self.objects.include,
            not_objects=self.objects.exclude,
            states=self.include_states,
            removed=self.include_removed,
        )


def _worst(failures: list[PortalError]) -> PortalError:
    """Choose the failure that says how to go on: a request to slow down, else the first one."""
    return next((failure for failure in failures if isinstance(failure, RateLimitError)), failures[0])
