"""The cached metadata of an account: holder, objects, meters, counters, types."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from exporter.client.session import Session
from exporter.errors import NoDataError, PortalError, ResponseError, UnreachableError
from exporter.models import Holder
from exporter.portals.base import parse_response
from exporter.portals.cem.catalog import (
    CachedSelection,
    Catalog,
    CounterSelection,
    SelectedCounters,
    StatedValues,
    build_catalog,
    list_stated_values,
)
from exporter.portals.cem.client import FUNCTIONS, VALUE_TYPES_LIST, CemApiClient
from exporter.portals.cem.lists import COUNTERS, METERS, OBJECTS, TYPES, VALUE_TYPES, CounterTypeRow, ListParser, RowT
from exporter.portals.cem.parser import AccountResponse, parse_milliseconds, unwrap_object

SELECTION_KEY, ACCOUNT_KEY = "roster", "account"
ACCESS_END_FIELD = "log_do"
"""The end of the account's access."""
STALE_FOR = timedelta(days=30)
"""How long a list that is due is still used while the portal returns no new one."""


class MetadataStore:
    """The lists of one account, one request each; with `renew` they are requested now, due or not."""

    def __init__(
        self,
        client: CemApiClient,
        metadata_every: timedelta,
        types_every: timedelta,
        *,
        keep_personal_data: bool = False,
        renew: bool = False,
    ) -> None:
        self.client = client
        self._keep_personal_data = keep_personal_data
        self._metadata_every, self._types_every = metadata_every, types_every
        self._cache = ListCache(client.session, renew=renew)

    @property
    def failures(self) -> list[PortalError]:
        """Return why a list that was due could not be renewed."""
        return [self._cache.failure] if self._cache.failure else []

    async def load_selected(self, selection: CounterSelection) -> tuple[SelectedCounters, StatedValues]:
        """Return the selected counters, and the last values that a list of counters requested just now states.

        Cached in the process while no list is due: joining the lists of a city's counters takes seconds.
        """
        cache = self.client.session.store.cache
        cached = cache.get(SELECTION_KEY)
        if isinstance(cached, CachedSelection) and cached.selection == selection and self._is_fresh(cached.requested_at):
            return cached.selected, []
        catalog = await self.load_catalog(selection)
        selected = await asyncio.to_thread(SelectedCounters.from_catalog, catalog)
        if not self.failures:
            cache[SELECTION_KEY] = CachedSelection(selection, dict(self._cache.requested_at), selected)
        return selected, list_stated_values(catalog) if "counters" in self._cache.refreshed else []

    def _is_fresh(self, requested_at: Mapping[str, float]) -> bool:
        return all(not self._cache.is_due(at, self._refresh_interval(name)) for name, at in requested_at.items())

    def _refresh_interval(self, name: str) -> timedelta:
        return self._types_every if name in ("types", "value_types") else self._metadata_every

    async def load_catalog(self, selection: CounterSelection) -> Catalog:
        """Return the catalog of objects, meters, counters and types."""
        counters = await self._load_list(COUNTERS, "counters", empty_error=NoDataError)
        meters = await self._load_list(METERS, "meters")
        objects = await self._load_list(OBJECTS, "objects", empty_error=None)
        types = await self._load_counter_types({counter.type for counter in counters})
        # In a thread: a city's 100,000 counters take a second or two, and requests are served meanwhile.
        return await asyncio.to_thread(build_catalog, objects, meters, counters, types, selection)

    async def load_holder(self) -> Holder | None:
        """Return who holds the account; None when the portal does not state it, for the readings do not need it."""
        try:
            stored = await self._cache.get(ACCOUNT_KEY, self._metadata_every, self._fetch_holder)
            if stored.get("personal") != self._keep_personal_data:
                stored = await self._cache.get(ACCOUNT_KEY, timedelta(0), self._fetch_holder)
            account = parse_response(AccountResponse, stored, "id=9 (account)")
        except (UnreachableError, ResponseError):
            return None
        return Holder(
            name=account.name or account.person,
            company=account.company,
            company_id=account.company_id,
            customer_id=account.customer_id,
            person_id=account.person_id,
            access_expires=parse_milliseconds(account.access_end),
        )

    async def _fetch_holder(self) -> dict[str, Any]:
        """Request who holds the account; without permission no personal data is stored either."""
        account = parse_response(AccountResponse, unwrap_object(await self.client.get_json(9)), "id=9 (account)")
        fields = account.model_dump(mode="json", by_alias=True)
        return {"personal": self._keep_personal_data} | (
            fields if self._keep_personal_data else {ACCESS_END_FIELD: fields[ACCESS_END_FIELD]}
        )

    async def load_value_type_names(self) -> dict[int, str]:
        """Return the maker's names of the kinds of value; nothing where they cannot be loaded, for only people read them."""
        try:
            rows = await self._load_list(VALUE_TYPES, "value_types", parameters={"cis": VALUE_TYPES_LIST})
        except PortalError:
            return {}
        return {row.id: row.name for row in rows}

    async def _load_counter_types(self, used: set[int]) -> list[CounterTypeRow]:
        """Return the counter types; requested early when a new list of counters has a type that is not cached."""
        types = await self._load_list(TYPES, "types")
        new_list = "counters" in self._cache.refreshed and "types" not in self._cache.refreshed
        if new_list and used - {row.id for row in types}:
            types = await self._load_list(TYPES, "types", every=timedelta(0))
        return types

    async def _load_list(
        self,
        table: ListParser[RowT],
        name: str,
        *,
        every: timedelta | None = None,
        parameters: Mapping[str, str] | None = None,
        empty_error: type[PortalError] | None = ResponseError,
    ) -> list[RowT]:
        """Return a list, cached or new; raise `empty_error`, if any, where it is empty."""
        where = f"id={FUNCTIONS[name]} ({name})"
        every = self._refresh_interval(name) if every is None else every

        async def fetch() -> str:
            rows = await asyncio.to_thread(
                table.parse_response, await self.client.get_response(FUNCTIONS[name], parameters), where
            )
            if empty_error and not rows:
                # Not cached: an empty list would stand for hours or days.
                raise empty_error(f"{where} is empty")
            return await asyncio.to_thread(table.dump, rows)

        return await asyncio.to_thread(table.parse, await self._cache.get(name, every, fetch), where)


class ListCache:
    """Lists stored between visits; one that is due but cannot be renewed is still used, and `failure` says why."""

    def __init__(self, session: Session, *, renew: bool = False) -> None:
        self._session, self._renew = session, renew
        self.failure: PortalError | None = None
        self.refreshed: set[str] = set()
        self.requested_at: dict[str, float] = {}
        """When each list that was used had been requested, in seconds since 1970."""

    def is_due(self, at: float, every: timedelta) -> bool:
        """Return whether a list that was requested at `at` is due."""
        return self._renew or _has_expired(at, self._session.now, every)

    async def get(self, key: str, every: timedelta, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """Return the list stored under `key`, fetching it when it is older than `every`.

        Raise what `fetch` raises when nothing is stored, and always for a refused login, a rate limit and an empty list.
        """
        now = self._session.now
        stored = await self._session.store.get(key, now)
        if stored:
            self.requested_at[key] = stored["at"]
        if stored and (self.failure or not self.is_due(stored["at"], every)):
            return stored["data"]
        try:
            data = await fetch()
        except (UnreachableError, ResponseError) as error:
            self.failure = self.failure or error
            if not stored:
                raise
            return stored["data"]
        self.refreshed.add(key)
        self.requested_at[key] = now.timestamp()
        await self._session.store.put(key, {"at": now.timestamp(), "data": data}, now + max(every, STALE_FOR))
        return data


def _has_expired(at: float, now: datetime, every: timedelta) -> bool:
    return not 0 <= now.timestamp() - at < every.total_seconds()
