"""The cached metadata of an account: holder, objects, meters, counters, types.

Only the list of counters is needed. What else is missing leaves names empty, is a note, and is requested again later.
"""

import asyncio
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

from exporter import runtime
from exporter.client.session import Session
from exporter.errors import NoDataError, PortalError, ResponseError, UnreachableError
from exporter.models import Holder, Nature
from exporter.portals.base import build_skip_notes, parse_response
from exporter.portals.cem.catalog import (
    CachedSelection,
    Catalog,
    CounterSelection,
    LastValues,
    SelectedCounters,
    StatedValues,
    build_catalog,
)
from exporter.portals.cem.client import FUNCTIONS, CemApiClient
from exporter.portals.cem.config import CemConfig
from exporter.portals.cem.counter_types import BUILT_IN_TYPES
from exporter.portals.cem.lists import COUNTERS, METERS, OBJECTS, TYPES, CounterTypeRow, ListParser, RowT
from exporter.portals.cem.parser import AccountResponse, parse_milliseconds, unwrap_object

SELECTION_KEY, LAST_VALUES_KEY, ACCOUNT_KEY, NOTES_KEY = "roster", "last-values", "account", "side-calls"
PUBLIC_FIELDS = ("log_od", "log_do")
"""From when to when access is given; all else is personal."""
STALE_FOR = timedelta(days=30)
"""How long a list that is due is still used while the portal returns no new one."""
RETRY_REFUSED, RETRY_UNREACHABLE = timedelta(hours=6), timedelta(minutes=30)
"""How long after a failure a list that readings do not need is requested again."""
NOTE_MEMORY = timedelta(days=7)
"""How long the failure of a call stays a note, unless the call succeeds before."""
MIN_TYPES_AGE = timedelta(minutes=5)
"""Types younger than this are not requested again because a value has jumped."""
CONSEQUENCES = {
    "account": "The end of access is not known",
    "objects": "Sites have no names",
    "meters": "Meters have no serial numbers, and removed ones are not told apart",
    "types": "The units of counters are those usual at CEM",
}


class MetadataStore:
    """The lists of one account, one request each; with `renew` they are requested now, due or not."""

    def __init__(self, client: CemApiClient, config: CemConfig, *, renew: bool = False) -> None:
        self.client = client
        self.selection = CounterSelection.from_config(config)
        self.skipped: Counter[str] = Counter()
        """The rows of lists requested just now that could not be understood, by field."""
        self._config = config
        self._cache = ListCache(client.session, renew=renew)
        self._call_notes = CallNotes(client.session)
        self._notes: list[str] = []
        self._retry_at: datetime | None = None

    @property
    def failures(self) -> list[PortalError]:
        """Return why a list that is needed and due could not be renewed."""
        return [self._cache.failures["counters"]] if "counters" in self._cache.failures else []

    def list_skip_notes(self) -> Sequence[str]:
        """Return notes on the rows of lists that could not be understood."""
        return self._notes

    async def list_notes(self) -> Sequence[str]:
        """Return what is missing of lists that are not needed, for a week or until it comes."""
        return await self._call_notes.load()

    async def load_selected(self) -> tuple[SelectedCounters, StatedValues | None]:
        """Return the selected counters, and the last values that a list of counters requested just now states.

        Cached in the process while no list is due: joining the lists of a city's counters takes seconds.
        """
        cached: CachedSelection | None = self.client.session.store.cache.get(SELECTION_KEY)
        if cached and cached.selection == self.selection and cached.made_at <= self.client.session.now < cached.due_at:
            return cached.selected, None
        found = await self._build_selected()
        await asyncio.to_thread(runtime.trim_memory)  # a city's lists leave a hundred megabytes
        return found

    async def renew_types(self) -> SelectedCounters:
        """Request the types again, unless that was done just now, and return the selected counters with them."""
        if not await self._cache.is_older("types", MIN_TYPES_AGE):
            return (await self.load_selected())[0]
        return (await self._build_selected(types_every=timedelta(0)))[0]

    async def load_catalog(self, types_every: timedelta | None = None) -> Catalog:
        """Return the catalog of objects, meters, counters and types."""
        counters = await self._load_list(COUNTERS, "counters", empty_error=NoDataError)
        if self.selection.needs_objects:
            meters = await self._load_list(METERS, "meters")
            objects = await self._load_list(OBJECTS, "objects", empty_error=None)
        else:
            meters = await self._load_side_list(METERS, "meters", [])
            objects = await self._load_side_list(OBJECTS, "objects", [], empty_error=None)
        types = await self._load_counter_types({counter.type for counter in counters}, types_every)
        await asyncio.to_thread(runtime.trim_memory)  # what responses have left, before the catalog takes as much
        # In a thread: a city's 100,000 counters take a second or two, and requests are served meanwhile.
        cached: CachedSelection | None = self.client.session.store.cache.get(SELECTION_KEY)
        known = cached.selected.registers if cached else {}
        return await asyncio.to_thread(build_catalog, objects, meters, counters, types, self.selection, known)

    async def load_holder(self) -> Holder | None:
        """Return who holds the account; None when the portal does not state it, for the readings do not need it."""
        stored = await self._load_side("account", self._load_account)
        if stored is None:
            return None
        account = parse_response(AccountResponse, stored, "id=9 (account)")
        return Holder(
            name=account.name or account.person,
            company=account.company,
            company_id=account.company_id,
            customer_id=account.customer_id,
            person_id=account.person_id,
            access_expires=parse_milliseconds(account.access_end),
            login_valid_from=parse_milliseconds(account.access_start),
        )

    async def _build_selected(self, types_every: timedelta | None = None) -> tuple[SelectedCounters, StatedValues | None]:
        session = self.client.session
        catalog = await self.load_catalog(types_every)
        cached: CachedSelection | None = session.store.cache.get(SELECTION_KEY)
        selected = await asyncio.to_thread(
            SelectedCounters.from_catalog, catalog, self._notes, before=cached.selected if cached else None
        )
        if not self.failures:
            due_at = min([self._cache.find_due(self._refresh_interval), *([self._retry_at] if self._retry_at else [])])
            session.store.cache[SELECTION_KEY] = CachedSelection(self.selection, session.now, due_at, selected)
        if LAST_VALUES_KEY not in session.store.cache:
            session.store.cache[LAST_VALUES_KEY] = _build_last_values(catalog)
        return selected, _list_stated_values(catalog) if "counters" in self._cache.refreshed else None

    def _refresh_interval(self, name: str) -> timedelta:
        return self._config.types_every if name == "types" else self._config.metadata_every

    async def _load_account(self) -> dict[str, Any]:
        stored = await self._cache.get(ACCOUNT_KEY, self._config.metadata_every, self._fetch_account)
        if stored["data"].get("personal") != self._config.personal_data:
            stored = await self._cache.get(ACCOUNT_KEY, timedelta(0), self._fetch_account)
        data: dict[str, Any] = stored["data"]
        return data

    async def _fetch_account(self) -> dict[str, Any]:
        """Request who holds the account; without permission no personal data is stored either."""
        account = parse_response(AccountResponse, unwrap_object(await self.client.get_json(9)), "id=9 (account)")
        if not account.model_fields_set:
            raise ResponseError("id=9 (account) has changed: show_name: field required")
        fields = account.model_dump(mode="json", by_alias=True)
        is_personal = self._config.personal_data
        kept = fields if is_personal else {name: fields[name] for name in PUBLIC_FIELDS}
        return {"data": {"personal": is_personal} | kept}

    async def _load_counter_types(self, used: set[int], every: timedelta | None) -> list[CounterTypeRow]:
        """Return the counter types; requested early when a new list of counters has a type that is not cached."""
        types = await self._load_side_list(TYPES, "types", BUILT_IN_TYPES, every=every)
        new_list = "counters" in self._cache.refreshed and "types" not in self._cache.refreshed
        if new_list and types is not BUILT_IN_TYPES and used - {row.id for row in types}:
            types = await self._load_side_list(TYPES, "types", BUILT_IN_TYPES, every=timedelta(0))
        return types

    async def _load_side_list(self, table: ListParser[RowT], name: str, default: list[RowT], **more: Any) -> list[RowT]:
        """Return a list that readings do not need, or `default`."""
        rows = await self._load_side(name, lambda: self._load_list(table, name, **more))
        return default if rows is None else rows

    async def _load_side(self, name: str, load: Callable[[], Awaitable[Any]]) -> Any | None:
        """Return what readings do not need; None where it fails, which is noted and not repeated at every visit."""
        store, now, key = self.client.session.store, self.client.session.now, f"{name}-failed"
        failed_until = datetime.fromtimestamp(await store.get(key, now) or 0, now.tzinfo)
        if now < failed_until <= now + RETRY_REFUSED and not self._cache.is_renewing:
            self._cache.pause(name)
        found = None
        try:
            found = await load()
        except (UnreachableError, ResponseError, NoDataError) as error:
            self._cache.record_failure(name, error)
        if failure := self._cache.failures.get(name):
            await self._call_notes.record(name, f"{CONSEQUENCES[name]}: {failure}")
            failed_until = now + (RETRY_UNREACHABLE if isinstance(failure, UnreachableError) else RETRY_REFUSED)
            await store.put(key, failed_until.timestamp(), failed_until)
        elif name in self._cache.refreshed:
            await self._call_notes.record(name, "")
        if now < failed_until:
            self._retry_at = min(self._retry_at or failed_until, failed_until)
        return found

    async def _load_list(
        self,
        table: ListParser[RowT],
        name: str,
        *,
        every: timedelta | None = None,
        empty_error: type[PortalError] | None = ResponseError,
    ) -> list[RowT]:
        """Return a list, cached or new; raise `empty_error`, if any, where it is empty."""
        where = f"id={FUNCTIONS[name]} ({name})"

        async def fetch() -> dict[str, Any]:
            # The response is not kept by a name: a city's would stay beside the rows made of it.
            rows, skipped = await asyncio.to_thread(table.parse_response, await self.client.get_response(FUNCTIONS[name]), where)
            if empty_error and not rows:
                # Not cached: an empty list would stand for hours or days.
                raise empty_error(f"{where} is empty")
            self.skipped += skipped
            return {"data": await asyncio.to_thread(table.dump, rows), "skipped": list(skipped)}

        stored = await self._cache.get(name, self._refresh_interval(name) if every is None else every, fetch)
        self._notes += build_skip_notes(where, stored.get("skipped", ()))
        return await asyncio.to_thread(table.load, stored["data"], where)


class ListCache:
    """Lists stored between visits; one that is due but cannot be renewed is still used, and `failures` has the reason."""

    def __init__(self, session: Session, *, renew: bool = False) -> None:
        self._session, self.is_renewing = session, renew
        self._failures: dict[str, PortalError] = {}
        self._refreshed: set[str] = set()
        self._paused: set[str] = set()
        """The lists that are not requested at present."""
        self._requested_at: dict[str, float] = {}

    @property
    def failures(self) -> Mapping[str, PortalError]:
        """Why lists that were due could not be renewed."""
        return self._failures

    @property
    def refreshed(self) -> Set[str]:
        """The lists that were requested just now."""
        return self._refreshed

    def pause(self, key: str) -> None:
        """Use a list as it is stored, and do not request it."""
        self._paused.add(key)

    def record_failure(self, key: str, error: PortalError) -> None:
        """Record why a list could not be loaded; one that is paused was not requested."""
        if key not in self._paused:
            self._failures[key] = error

    def find_due(self, get_interval: Callable[[str], timedelta]) -> datetime:
        """Return when the first of the lists that were used is due."""
        due = (at + get_interval(name).total_seconds() for name, at in self._requested_at.items())
        return datetime.fromtimestamp(min(due), self._session.now.tzinfo)

    async def is_older(self, key: str, age: timedelta) -> bool:
        """Return whether a stored list was requested longer ago than `age`."""
        stored = await self._session.store.get(key, self._session.now)
        return stored is not None and _has_expired(stored["at"], self._session.now, age)

    async def get(self, key: str, every: timedelta, fetch: Callable[[], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """Return the list stored under `key` with what is stored with it, fetching it when it is older than `every`.

        Raise what `fetch` raises when nothing is stored, and always for a refused login, a rate limit and an empty list.
        """
        now = self._session.now
        stored = await self._session.store.get(key, now)
        if stored:
            self._requested_at[key] = stored["at"]
            is_due = self.is_renewing or _has_expired(stored["at"], now, every)
            if self._failures or key in self._paused or not is_due:
                return dict(stored)
        elif key in self._paused:
            raise NoDataError(f"{key} failed a short while ago")
        try:
            fetched = await fetch()
        except (UnreachableError, ResponseError) as error:
            self._failures[key] = error
            if not stored:
                raise
            return dict(stored)
        self._refreshed.add(key)
        self._requested_at[key] = now.timestamp()
        await self._session.store.put(key, {"at": now.timestamp(), **fetched}, now + max(every, STALE_FOR))
        return fetched


class CallNotes:
    """The notes on calls that readings do not need, by name: each is stored for a week, or until its call succeeds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def record(self, name: str, text: str) -> None:
        """Store the note of a call, in place of its last one; an empty text removes it."""
        stored, now = await self._load(), self._session.now
        others = {key: note for key, note in stored.items() if key != name}
        if text:
            others[name] = text, (now + NOTE_MEMORY).timestamp()
        if others != stored:
            await self._session.store.put(NOTES_KEY, others, now + NOTE_MEMORY)

    async def load(self) -> tuple[str, ...]:
        """Return the notes of this visit and of those of the last week."""
        return tuple(text for text, _ in (await self._load()).values())

    async def _load(self) -> dict[str, tuple[str, float]]:
        stored, now = await self._session.store.get(NOTES_KEY, self._session.now) or {}, self._session.now.timestamp()
        return {name: (text, until) for name, (text, until) in stored.items() if 0 < until - now <= NOTE_MEMORY.total_seconds()}


def _list_stated_values(catalog: Catalog) -> StatedValues:
    """Return the last values that the list of counters itself states."""
    numbers, values, times = array("q"), array("d"), array("q")
    for row in (entry.counter for entry in catalog.selected.values()):
        if row.value is not None and row.time is not None:
            numbers.append(row.id)
            values.append(row.value)
            times.append(row.time)
    return numbers, values, times


def _build_last_values(catalog: Catalog) -> LastValues:
    """Return what registers showed in the list of counters."""
    registers = {number: entry for number, entry in catalog.selected.items() if entry.type_info.nature is Nature.COUNTER}
    last_values = LastValues(registers)
    for number, entry in registers.items():
        if entry.counter.value is not None:
            last_values.put(number, entry.counter.value)
    return last_values


def _has_expired(at: float, now: datetime, every: timedelta) -> bool:
    return not 0 <= now.timestamp() - at < every.total_seconds()
