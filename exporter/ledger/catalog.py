"""The usage points and series of an account: found, begun, described and shown, only what differs being written."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from exporter.ledger.database import Database
from exporter.models import Inventory, Register, UsagePoint

SeriesKey = tuple[str, str, str, str, str, str]
"""Usage point, register, direction, unit, form, resolution."""
ReadingForm = tuple[str, str]
"""`index`, `interval` or `peak`; resolution, empty for an index."""
CatalogRow = tuple[int, tuple[str, ...], int]
"""Number in the file, what is told of it, whether it is shown."""


class IdentityCache:
    """Numbers of objects that were met: portals tell the same ones visit after visit, and they need no second look.

    Known by their address, and therefore held, for as long as visits bring them again.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._objects: list[object] = []
        self._hits = 0
        """How many of those were met in this visit."""

    def begin_visit(self) -> None:
        """Begin a visit: when the one before met less than half of what is held, all is let go."""
        if 2 * self._hits < len(self._objects):
            self._numbers, self._objects = {}, []
        self._hits = 0

    def get(self, key: object) -> int | None:
        """Give the number of an object."""
        number = self._numbers.get(id(key))
        self._hits += number is not None
        return number

    def put(self, key: object, number: int) -> int:
        """Meet an object."""
        self._numbers[id(key)] = number
        self._objects.append(key)
        self._hits += 1
        return number


class AccountCatalog:
    """What the file holds of an account's points and series: good for as long as nobody else writes, and none of it is undone.

    Between visits only the numbers of what was met are kept. The tables are read when something else is told, and let go.
    """

    def __init__(self, db: sqlite3.Connection, account: int, *, keep_personal: bool) -> None:
        self._db, self.account, self._keep_personal = db, account, keep_personal
        self.changed_usage_points: set[str] = set()
        """The usage points of which this visit has written something."""
        self._usage_point_ids, self._series_ids = IdentityCache(), defaultdict[ReadingForm, IdentityCache](IdentityCache)
        self._shown_inventory: Inventory | None = None
        """The inventory that is shown."""

    def begin_visit(self) -> None:
        """Begin a visit."""
        self.changed_usage_points = set()
        self.__dict__.pop("_points", None)
        self.__dict__.pop("_series", None)
        for met in (self._usage_point_ids, *self._series_ids.values()):
            met.begin_visit()

    @cached_property
    def _usage_point_rows(self) -> dict[str, CatalogRow]:
        rows = self._db.execute(_SELECT_USAGE_POINTS, (self.account,))
        return {usage_point: (number, tuple(told), shown) for usage_point, number, shown, *told in rows}

    @cached_property
    def _series_rows(self) -> dict[SeriesKey, CatalogRow]:
        found: dict[SeriesKey, CatalogRow] = {}
        for number, shown, *line, nature, kind, unit, description in self._db.execute(_SELECT_SERIES, (self.account,)):
            found[tuple(line)] = number, (nature, kind, unit, description), shown
        return found

    def get_series_id(self, register: Register, form: ReadingForm) -> int:
        """Give the number of a register's series, begun where there is none."""
        met = self._series_ids[form]
        number = met.get(register)
        return met.put(register, self._describe_series((*_register_key(register), *form), register)) if number is None else number

    def get_usage_point_id(self, point: UsagePoint) -> int:
        """Give the number of a usage point, begun where there is none."""
        number = self._usage_point_ids.get(point)
        return self._usage_point_ids.put(point, self._describe_usage_point(point)) if number is None else number

    def show_inventory(self, inventory: Inventory) -> None:
        """Show what the account holds, and nothing else."""
        if inventory is self._shown_inventory:
            return
        held = {self.get_usage_point_id(point) for point in inventory.usage_points}
        if inventory.registers is None:
            lines = {row[0] for line, row in self._series_rows.items() if self._usage_point_rows[line[0]][0] in held}
        else:
            lines = self._select_series(inventory.registers, held)
        self._show_usage_points(held)
        self._show_series(lines)
        self._shown_inventory = inventory

    def _select_series(self, registers: Iterable[Register], usage_point_ids: set[int]) -> set[int]:
        names = set()
        for register in registers:
            names.add(name := _register_key(register))
            for form in (("index", ""), ("interval", "")):
                if (*name, *form) in self._series_rows:
                    self.get_series_id(register, form)
        return {
            row[0]
            for line, row in self._series_rows.items()
            if line[:4] in names or (line[4] == "peak" and self._usage_point_rows[line[0]][0] in usage_point_ids)
        }

    def _describe_series(self, key: SeriesKey, register: Register) -> int:
        told = (register.nature, register.kind, register.portal_unit, register.description)
        point = self.get_usage_point_id(register.usage_point)
        found = self._series_rows.get(key)
        if found is None:
            self._shown_inventory = None
            done = self._db.execute(_INSERT_SERIES, (point, *key[1:], *told))
            found = int(done.lastrowid or 0), told, 1
        elif found[1] == told:
            return found[0]
        else:
            self._db.execute(_UPDATE_SERIES, (*told, found[0]))
        self._series_rows[key] = found[0], told, found[2]
        self.changed_usage_points.add(key[0])
        return found[0]

    def _describe_usage_point(self, point: UsagePoint) -> int:
        number, known, is_shown = self._usage_point_rows.get(point.id, (0, ("",) * 5, 1))
        # A part of an answer that says less of the point than another did must not make it forgotten.
        told = (point.commodity, point.meter, point.site, point.name, point.address)
        *facts, address = (new or old for new, old in zip(told, known, strict=True))
        said = (*facts, address if self._keep_personal else "")
        if number and said == known:
            return number
        if not number:
            self._shown_inventory = None
            number = int(self._db.execute(_INSERT_USAGE_POINT, (self.account, point.id, *said)).lastrowid or 0)
        else:
            self._db.execute(_UPDATE_USAGE_POINT, (*said, number))
        self._usage_point_rows[point.id] = number, said, is_shown
        self.changed_usage_points.add(point.id)
        return number

    def _show_usage_points(self, usage_point_ids: set[int]) -> None:
        changed = [
            (usage_point, number, told, int(number in usage_point_ids))
            for usage_point, (number, told, shown) in self._usage_point_rows.items()
            if (number in usage_point_ids) != bool(shown)
        ]
        for usage_point, number, told, shown in changed:
            self._db.execute("UPDATE point SET shown = ? WHERE id = ?", (shown, number))
            self._usage_point_rows[usage_point] = number, told, shown
            self.changed_usage_points.add(usage_point)

    def _show_series(self, series_ids: set[int]) -> None:
        changed = [
            (line, number, told, int(number in series_ids))
            for line, (number, told, shown) in self._series_rows.items()
            if (number in series_ids) != bool(shown)
        ]
        for line, number, told, shown in changed:
            self._db.execute("UPDATE series SET shown = ? WHERE id = ?", (shown, number))
            self._series_rows[line] = number, told, shown
            self.changed_usage_points.add(line[0])


class CatalogCache:
    """The directories of all accounts, kept between their visits while the file is as this process left it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._change_counter = database.change_counter()
        self._catalogs: dict[tuple[int, bool], AccountCatalog] = {}

    def get(self, db: sqlite3.Connection, account: int, *, keep_personal: bool) -> AccountCatalog:
        """Give an account's directory for a visit, within its transaction."""
        if (state := self._database.change_counter()) != self._change_counter:
            self._catalogs, self._change_counter = {}, state
        if (found := self._catalogs.get((account, keep_personal))) is None:
            found = self._catalogs[account, keep_personal] = AccountCatalog(db, account, keep_personal=keep_personal)
        found.begin_visit()
        return found


def _register_key(register: Register) -> tuple[str, str, str, str]:
    return register.usage_point.id, register.name, register.direction, register.unit


_SELECT_USAGE_POINTS = "SELECT usage_point, id, shown, commodity, meter, site, name, address FROM point WHERE account = ?"
_SELECT_SERIES = (
    "SELECT series.id, series.shown, usage_point, register, direction, unit, form, resolution, nature, kind, portal_unit,"
    " description FROM series JOIN point ON point.id = series.point WHERE account = ?"
)
_INSERT_USAGE_POINT = (
    "INSERT INTO point (account, usage_point, commodity, meter, site, name, address) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_USAGE_POINT = "UPDATE point SET commodity = ?, meter = ?, site = ?, name = ?, address = ? WHERE id = ?"
_INSERT_SERIES = (
    "INSERT INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_SERIES = "UPDATE series SET nature = ?, kind = ?, portal_unit = ?, description = ? WHERE id = ?"
