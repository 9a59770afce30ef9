"""What an account holds, asked once in a while and kept between: holder, objects, meters, counters, types."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from exporter.errors import NoDataError, PortalError, ResponseError, UnreachableError
from exporter.model import Holder
from exporter.portals.base import understand
from exporter.portals.cem.answers import AccountAnswer, instant, one
from exporter.portals.cem.api import Api
from exporter.portals.cem.estate import Choice, Estate, put_together
from exporter.portals.cem.roster import Held, Roster, stated
from exporter.portals.cem.roster import Rows as StatedRows
from exporter.portals.cem.tables import COUNTERS, METERS, PLACES, TYPES, VALUE_TYPES, CounterType, Row, Table
from exporter.session import Session

FUNCTIONS = {
    "user_info": 9,
    "objects": 23,
    "meters": 108,
    "counters": 107,
    "counter_last": 8,
    "counter_history": 3,
    "types": 222,
    "value_types": 11,
}
NATURES = "50"
"""The code list of kinds of value (`pot_type`)."""
HELD, ACCOUNT = "roster", "account"
ENDS = "log_do"
"""The end of the account's access."""
STALE = timedelta(days=30)
"""How long a list that is due may still serve while the portal cannot give a new one."""


class Holdings:
    """The lists of one account, one call each for all of it; `renew` asks them now, due or not."""

    def __init__(
        self, api: Api, metadata_every: timedelta, types_every: timedelta, *, personal: bool = False, renew: bool = False
    ) -> None:
        self.api = api
        self._personal = personal
        self._metadata_every, self._types_every = metadata_every, types_every
        self._shelf = Shelf(api.session, renew=renew)

    @property
    def failures(self) -> list[PortalError]:
        """Why a list that was due could not be renewed."""
        return [self._shelf.failed] if self._shelf.failed else []

    async def roster(self, choice: Choice) -> tuple[Roster, StatedRows]:
        """Give what a visit needs, and the last values that a list of counters asked just now states.

        Held in the process while no list is due: a city's counters take seconds to be put together.
        """
        memory = self._shelf.memory
        held = memory.held.get(HELD)
        if isinstance(held, Held) and held.choice == choice and self._fresh_enough(held.asked):
            return held.roster, []
        estate = await self.estate(choice)
        roster = await asyncio.to_thread(Roster.of, estate)
        if not self.failures:
            memory.held[HELD] = Held(choice, dict(self._shelf.at), roster)
        return roster, stated(estate) if "counters" in self._shelf.asked else []

    def _fresh_enough(self, asked: Mapping[str, float]) -> bool:
        return all(not self._shelf.is_due(at, self._every(name)) for name, at in asked.items())

    def _every(self, name: str) -> timedelta:
        return self._types_every if name in ("types", "value_types") else self._metadata_every

    async def estate(self, choice: Choice) -> Estate:
        """Put objects, meters, counters and types together."""
        counters = await self._list(COUNTERS, "counters", empty=NoDataError)
        meters = await self._list(METERS, "meters")
        places = await self._list(PLACES, "objects", empty=None)
        types = await self._types({counter.type for counter in counters})
        # In a thread: a city's 100,000 counters take a second or two, in which pages still want to be served.
        return await asyncio.to_thread(put_together, places, meters, counters, types, choice)

    async def holder(self) -> Holder | None:
        """Say who holds the account; None when the portal cannot, for the readings do without."""
        try:
            kept = await self._shelf.get(ACCOUNT, self._metadata_every, self._ask_holder)
            if kept.get("personal") != self._personal:
                kept = await self._shelf.get(ACCOUNT, timedelta(0), self._ask_holder)
            account = understand(AccountAnswer, kept, "id=9 (account)")
        except (UnreachableError, ResponseError):
            return None
        return Holder(
            name=account.name or account.person,
            company=account.company,
            company_id=account.company_id,
            customer_id=account.customer_id,
            person_id=account.person_id,
            access_expires=instant(account.ends),
        )

    async def _ask_holder(self) -> dict[str, Any]:
        """Ask who holds the account; who may not be shown is not kept either."""
        told = understand(AccountAnswer, one(await self.api.get(9)), "id=9 (account)").model_dump(mode="json", by_alias=True)
        return {"personal": self._personal} | (told if self._personal else {ENDS: told[ENDS]})

    async def natures(self) -> dict[int, str]:
        """Name the kinds of value in the maker's words; only for people, so that nothing fails without them."""
        try:
            found = await self._list(VALUE_TYPES, "value_types", keys={"cis": NATURES})
        except PortalError:
            return {}
        return {nature.id: nature.name for nature in found}

    async def _types(self, used: set[int]) -> list[CounterType]:
        """Give the counter types; asked again early when a new list of counters names one that is not kept."""
        types = await self._list(TYPES, "types")
        new_list = "counters" in self._shelf.asked and "types" not in self._shelf.asked
        if new_list and used - {kind.id for kind in types}:
            types = await self._list(TYPES, "types", every=timedelta(0))
        return types

    async def _list(
        self,
        table: Table[Row],
        name: str,
        *,
        every: timedelta | None = None,
        keys: Mapping[str, str] | None = None,
        empty: type[PortalError] | None = ResponseError,
    ) -> list[Row]:
        """Give a list, kept or new; an empty one raises `empty` where there is one."""
        where = f"id={FUNCTIONS[name]} ({name})"
        every = self._every(name) if every is None else every

        async def ask() -> str:
            rows = await asyncio.to_thread(table.answered, await self.api.get_text(FUNCTIONS[name], keys), where)
            if empty and not rows:
                # Not kept: an empty list would stand for hours or days.
                raise empty(f"{where} is empty")
            return await asyncio.to_thread(table.said, rows)

        return await asyncio.to_thread(table.read, await self._shelf.get(name, every, ask), where)


class Shelf:
    """Lists kept between visits; one that is due but cannot be had serves on, and `failed` says why it was not renewed."""

    def __init__(self, session: Session, *, renew: bool = False) -> None:
        self._session, self._renew = session, renew
        self.memory = session.memory
        self.failed: PortalError | None = None
        self.asked: set[str] = set()
        self.at: dict[str, float] = {}
        """When each list that was given had been asked, in seconds since 1970."""

    def is_due(self, at: float, every: timedelta) -> bool:
        """Tell whether a list that was asked then is to be asked now."""
        return self._renew or _due(at, self._session.now, every)

    async def get(self, key: str, every: timedelta, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Give the list kept under `key`, asking for it when it is older than `every`.

        Raises what `ask` raises when nothing is kept, and always a refused login, a request to slow down, an empty list.
        """
        now = self._session.now
        kept = await self._session.memory.get(key, now)
        if kept:
            self.at[key] = kept["at"]
        if kept and (self.failed or not self.is_due(kept["at"], every)):
            return kept["data"]
        try:
            data = await ask()
        except (UnreachableError, ResponseError) as error:
            self.failed = self.failed or error
            if not kept:
                raise
            return kept["data"]
        self.asked.add(key)
        self.at[key] = now.timestamp()
        await self._session.memory.put(key, {"at": now.timestamp(), "data": data}, now + max(every, STALE))
        return data


def _due(at: float, now: datetime, every: timedelta) -> bool:
    return not 0 <= now.timestamp() - at < every.total_seconds()
