"""The usage points and series of an account: finds, creates and describes them, and writes only what changed."""

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from itertools import count

from exporter.ledger.database import Database
from exporter.models import Inventory, Register, UsagePoint

SeriesKey = tuple[str, str, str, str, str, str]
"""Usage point, register, direction, unit, form, resolution."""
ReadingForm = tuple[str, str]
"""`index`, `interval` or `peak`; resolution, empty for an index."""
CatalogRow = tuple[int, tuple[str, ...], int]
"""ID, description, whether it is shown."""


class IdentityCache:
    """Row IDs by the identity of the object: portals return the same objects at each visit, and identity is faster than equality.

    An object is referenced, so that its identity stays its own, for as long as visits return it. They return them in the same
    order too: numbers in that order take a fifth of the memory of a dictionary, which is made only where an order differs.
    """

    def __init__(self) -> None:
        self._identities, self._row_ids = array("Q"), array("q")
        self._objects: list[object] = []
        self._places: dict[int, int] | None = None
        """Identity -> place."""
        self._next = 0
        """The place of the object that is probably asked for next."""
        self._hits = 0
        """How many of the objects this visit returned."""
        self._before_feed: tuple[int, int] | None = None
        """Within a transaction of a feed: how many objects and hits there were before it."""

    def begin_visit(self) -> None:
        """Begin a visit: if the previous one returned less than three quarters of the objects, clear the cache."""
        self._end_feed()
        if 4 * self._hits < 3 * len(self._objects):
            for kept in (self._identities, self._row_ids, self._objects):
                del kept[:]
        self._hits = 0

    def begin_feed(self) -> None:
        """Begin a transaction of a feed: its objects are cached until the next one, and say nothing about those of visits."""
        self._end_feed()
        self._before_feed = len(self._objects), self._hits

    def end(self) -> None:
        """End a visit or a transaction of a feed: free what only it needed."""
        self._places, self._next = None, 0

    def get(self, key: object) -> int | None:
        """Return the row ID of an object, or None."""
        identity, place = id(key), self._next
        if place >= len(self._identities) or self._identities[place] != identity:
            if self._places is None:
                self._places = dict(zip(self._identities, count()))
            if (found := self._places.get(identity)) is None:
                return None
            place = found
        self._hits += 1
        self._next = place + 1
        return self._row_ids[place]

    def put(self, key: object, row_id: int) -> int:
        """Cache the row ID of an object, and return it."""
        if self._places is not None:
            self._places[id(key)] = len(self._objects)
        self._identities.append(id(key))
        self._row_ids.append(row_id)
        self._objects.append(key)
        self._hits += 1
        return row_id

    def _end_feed(self) -> None:
        self.end()
        if self._before_feed:
            count_before, self._hits = self._before_feed
            for kept in (self._identities, self._row_ids, self._objects):
                del kept[count_before:]
            self._before_feed = None


class AccountCatalog:
    """An account's usage points and series: valid as long as no other process writes, and no transaction is rolled back.

    Between visits only the IDs of known objects are kept. The tables are read only when a visit returns others.
    """

    def __init__(self, db: sqlite3.Connection, account: int, *, keep_personal: bool) -> None:
        self._db, self.account, self._keep_personal = db, account, keep_personal
        self.changed_usage_points: set[str] = set()
        """The usage points of which this visit changed something."""
        self._usage_point_ids, self._series_ids = IdentityCache(), defaultdict[ReadingForm, IdentityCache](IdentityCache)
        self._shown_inventory: Inventory | None = None
        """The inventory that is shown now."""

    def mark_changed(self, usage_point: str) -> None:
        """Record that this visit changes something of a usage point."""
        self.changed_usage_points.add(usage_point)

    def begin(self, *, is_visit: bool) -> None:
        """Begin a transaction: a visit's, or that of a feed."""
        self.changed_usage_points = set()
        self.forget_rows()
        for cache in (self._usage_point_ids, *self._series_ids.values()):
            if is_visit:
                cache.begin_visit()
            else:
                cache.begin_feed()

    def forget_rows(self) -> None:
        """Free what was read of the tables: some 100 MB of 100,000 registers."""
        for cache in (self._usage_point_ids, *self._series_ids.values()):
            cache.end()
        self.__dict__.pop("_usage_point_rows", None)
        self.__dict__.pop("_series_rows", None)

    @cached_property
    def _usage_point_rows(self) -> dict[str, CatalogRow]:
        rows = self._db.execute(_SELECT_USAGE_POINTS, (self.account,))
        return {usage_point: (row_id, tuple(description), shown) for usage_point, row_id, shown, *description in rows}

    @cached_property
    def _series_rows(self) -> dict[SeriesKey, CatalogRow]:
        found: dict[SeriesKey, CatalogRow] = {}
        for row_id, shown, *columns in self._db.execute(_SELECT_SERIES, (self.account,)):
            key, description = columns[:6], columns[6:]
            found[tuple(key)] = row_id, tuple(description), shown
        return found

    def get_series_id(self, register: Register, form: ReadingForm) -> int:
        """Return the ID of a register's series, creating it if new."""
        cache = self._series_ids[form]
        row_id = cache.get(register)
        if row_id is None:
            row_id = cache.put(register, self._describe_series((*_register_key(register), *form), register))
        return row_id

    def get_usage_point_id(self, point: UsagePoint) -> int:
        """Return the ID of a usage point, creating it if new."""
        row_id = self._usage_point_ids.get(point)
        return self._usage_point_ids.put(point, self._describe_usage_point(point)) if row_id is None else row_id

    def show_inventory(self, inventory: Inventory) -> None:
        """Show the usage points and series of an inventory, and no others."""
        if inventory is self._shown_inventory:
            return
        usage_point_ids = {self.get_usage_point_id(point) for point in inventory.usage_points}
        if inventory.registers is None:
            series_ids = {
                row[0] for key, row in self._series_rows.items() if self._usage_point_rows[key[0]][0] in usage_point_ids
            }
        else:
            series_ids = self._select_series(inventory.registers, usage_point_ids)
        self._show_usage_points(usage_point_ids)
        self._show_series(series_ids)
        self._shown_inventory = inventory

    def _select_series(self, registers: Iterable[Register], usage_point_ids: set[int]) -> set[int]:
        register_keys = set()
        for register in registers:
            register_keys.add(register_key := _register_key(register))
            for form in (("index", ""), ("interval", "")):
                if (*register_key, *form) in self._series_rows:
                    self.get_series_id(register, form)
        return {
            row[0]
            for key, row in self._series_rows.items()
            if key[:4] in register_keys or (key[4] == "peak" and self._usage_point_rows[key[0]][0] in usage_point_ids)
        }

    def _describe_series(self, key: SeriesKey, register: Register) -> int:
        description = (
            register.nature, register.kind, register.portal_unit, register.description, register.part_of, register.value_type,
            register.type_id,
        )  # fmt: skip
        point = self.get_usage_point_id(register.usage_point)
        found = self._series_rows.get(key)
        if found is None:
            self._shown_inventory = None
            cursor = self._db.execute(_INSERT_SERIES, (point, *key[1:], *description))
            found = int(cursor.lastrowid or 0), description, 1
        elif found[1] == description:
            return found[0]
        else:
            self._db.execute(_UPDATE_SERIES, (*description, found[0]))
        self._series_rows[key] = found[0], description, found[2]
        self.changed_usage_points.add(key[0])
        return found[0]

    def _describe_usage_point(self, point: UsagePoint) -> int:
        row_id, stored, is_shown = self._usage_point_rows.get(point.id, (0, ("",) * 6, 1))
        # A response that describes the usage point in less detail than another one must not erase the details.
        current = (point.commodity, point.meter, point.site, point.name, point.place_id, point.address)
        *details, address = (new or old for new, old in zip(current, stored, strict=True))
        description = (*details, address if self._keep_personal else "")
        if row_id and description == stored:
            return row_id
        if not row_id:
            self._shown_inventory = None
            row_id = int(self._db.execute(_INSERT_USAGE_POINT, (self.account, point.id, *description)).lastrowid or 0)
        else:
            self._db.execute(_UPDATE_USAGE_POINT, (*description, row_id))
        self._usage_point_rows[point.id] = row_id, description, is_shown
        self.changed_usage_points.add(point.id)
        return row_id

    def _show_usage_points(self, usage_point_ids: set[int]) -> None:
        changed = [
            (usage_point, row_id, description, int(row_id in usage_point_ids))
            for usage_point, (row_id, description, shown) in self._usage_point_rows.items()
            if (row_id in usage_point_ids) != bool(shown)
        ]
        for usage_point, row_id, description, shown in changed:
            self._db.execute("UPDATE point SET shown = ? WHERE id = ?", (shown, row_id))
            self._usage_point_rows[usage_point] = row_id, description, shown
            self.changed_usage_points.add(usage_point)

    def _show_series(self, series_ids: set[int]) -> None:
        changed = [
            (key, row_id, description, int(row_id in series_ids))
            for key, (row_id, description, shown) in self._series_rows.items()
            if (row_id in series_ids) != bool(shown)
        ]
        for key, row_id, description, shown in changed:
            self._db.execute("UPDATE series SET shown = ? WHERE id = ?", (shown, row_id))
            self._series_rows[key] = row_id, description, shown
            self.changed_usage_points.add(key[0])


class CatalogCache:
    """The catalogs of all accounts, kept between visits while only this process changes the file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._change_counter = database.change_counter()
        self._catalogs: dict[tuple[int, bool], AccountCatalog] = {}

    def get(self, db: sqlite3.Connection, account: int, *, keep_personal: bool, is_visit: bool = True) -> AccountCatalog:
        """Return an account's catalog for a visit or for a request of a feed, within its transaction."""
        if (state := self._database.change_counter()) != self._change_counter:
            self._catalogs, self._change_counter = {}, state
        if (found := self._catalogs.get((account, keep_personal))) is None:
            found = self._catalogs[account, keep_personal] = AccountCatalog(db, account, keep_personal=keep_personal)
        found.begin(is_visit=is_visit)
        return found


def _register_key(register: Register) -> tuple[str, str, str, str]:
    return register.usage_point.id, register.name, register.direction, register.unit


_SELECT_USAGE_POINTS = (
    "SELECT usage_point, id, shown, commodity, meter, site, name, place_id, address FROM point WHERE account = ?"
)
_SELECT_SERIES = (
    "SELECT series.id, series.shown, usage_point, register, direction, unit, form, resolution, nature, kind, portal_unit,"
    " description, part_of, value_type, type_id FROM series JOIN point ON point.id = series.point WHERE account = ?"
)
_INSERT_USAGE_POINT = (
    "INSERT INTO point (account, usage_point, commodity, meter, site, name, place_id, address) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_USAGE_POINT = "UPDATE point SET commodity = ?, meter = ?, site = ?, name = ?, place_id = ?, address = ? WHERE id = ?"
_INSERT_SERIES = (
    "INSERT INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description,"
    " part_of, value_type, type_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_SERIES = (
    "UPDATE series SET nature = ?, kind = ?, portal_unit = ?, description = ?, part_of = ?, value_type = ?, type_id = ?"
    " WHERE id = ?"
)
