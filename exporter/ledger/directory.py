"""The usage points and series of an account: found, begun, described and shown, only what differs being written."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from exporter.ledger.store import Store
from exporter.model import Inventory, Register, UsagePoint

Line = tuple[str, str, str, str, str, str]
"""Usage point, register, direction, unit, form, resolution."""
Form = tuple[str, str]
"""`index`, `interval` or `peak`; resolution, empty for an index."""
Row = tuple[int, tuple[str, ...], int]
"""Number in the file, what is told of it, whether it is shown."""


class Met:
    """Numbers of objects that were met: portals tell the same ones visit after visit, and they need no second look.

    Known by their address, and therefore held, for as long as visits bring them again.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._held: list[object] = []
        self._again = 0
        """How many of those were met in this visit."""

    def begin(self) -> None:
        """Begin a visit: when the one before met less than half of what is held, all is let go."""
        if 2 * self._again < len(self._held):
            self._numbers, self._held = {}, []
        self._again = 0

    def get(self, one: object) -> int | None:
        """Give the number of an object."""
        number = self._numbers.get(id(one))
        self._again += number is not None
        return number

    def put(self, one: object, number: int) -> int:
        """Meet an object."""
        self._numbers[id(one)] = number
        self._held.append(one)
        self._again += 1
        return number


class Directory:
    """What the file holds of an account's points and series: good for as long as nobody else writes, and none of it is undone.

    Between visits only the numbers of what was met are kept. The tables are read when something else is told, and let go.
    """

    def __init__(self, db: sqlite3.Connection, account: int, *, personal: bool) -> None:
        self._db, self.account, self._personal = db, account, personal
        self.touched: set[str] = set()
        """The usage points of which this visit has written something."""
        self._met_points, self._met = Met(), defaultdict[Form, Met](Met)
        self._shown: Inventory | None = None
        """The inventory that is shown."""

    def begin(self) -> None:
        """Begin a visit."""
        self.touched = set()
        self.__dict__.pop("_points", None)
        self.__dict__.pop("_series", None)
        for met in (self._met_points, *self._met.values()):
            met.begin()

    @cached_property
    def _points(self) -> dict[str, Row]:
        rows = self._db.execute(_POINTS, (self.account,))
        return {usage_point: (number, tuple(told), shown) for usage_point, number, shown, *told in rows}

    @cached_property
    def _series(self) -> dict[Line, Row]:
        found: dict[Line, Row] = {}
        for number, shown, *line, nature, kind, unit, description in self._db.execute(_SERIES, (self.account,)):
            found[tuple(line)] = number, (nature, kind, unit, description), shown
        return found

    def series(self, register: Register, form: Form) -> int:
        """Give the number of a register's series, begun where there is none."""
        met = self._met[form]
        number = met.get(register)
        return met.put(register, self._described((*_named(register), *form), register)) if number is None else number

    def point(self, point: UsagePoint) -> int:
        """Give the number of a usage point, begun where there is none."""
        number = self._met_points.get(point)
        return self._met_points.put(point, self._point(point)) if number is None else number

    def hold(self, inventory: Inventory) -> None:
        """Show what the account holds, and nothing else."""
        if inventory is self._shown:
            return
        held = {self.point(point) for point in inventory.points}
        if inventory.registers is None:
            lines = {row[0] for line, row in self._series.items() if self._points[line[0]][0] in held}
        else:
            lines = self._of_registers(inventory.registers, held)
        self._show_points(held)
        self._show_series(lines)
        self._shown = inventory

    def _of_registers(self, registers: Iterable[Register], held: set[int]) -> set[int]:
        names = set()
        for register in registers:
            names.add(name := _named(register))
            for form in (("index", ""), ("interval", "")):
                if (*name, *form) in self._series:
                    self.series(register, form)
        return {
            row[0]
            for line, row in self._series.items()
            if line[:4] in names or (line[4] == "peak" and self._points[line[0]][0] in held)
        }

    def _described(self, line: Line, register: Register) -> int:
        told = (register.nature, register.kind, register.portal_unit, register.description)
        point = self.point(register.point)
        found = self._series.get(line)
        if found is None:
            self._shown = None
            done = self._db.execute(_NEW_SERIES, (point, *line[1:], *told))
            found = int(done.lastrowid or 0), told, 1
        elif found[1] == told:
            return found[0]
        else:
            self._db.execute(_SAY_SERIES, (*told, found[0]))
        self._series[line] = found[0], told, found[2]
        self.touched.add(line[0])
        return found[0]

    def _point(self, point: UsagePoint) -> int:
        number, known, is_shown = self._points.get(point.id, (0, ("",) * 5, 1))
        # A part of an answer that says less of the point than another did must not make it forgotten.
        told = (point.commodity, point.meter, point.site, point.name, point.address)
        *facts, address = (new or old for new, old in zip(told, known, strict=True))
        said = (*facts, address if self._personal else "")
        if number and said == known:
            return number
        if not number:
            self._shown = None
            number = int(self._db.execute(_NEW_POINT, (self.account, point.id, *said)).lastrowid or 0)
        else:
            self._db.execute(_SAY_POINT, (*said, number))
        self._points[point.id] = number, said, is_shown
        self.touched.add(point.id)
        return number

    def _show_points(self, held: set[int]) -> None:
        changed = [
            (usage_point, number, told, int(number in held))
            for usage_point, (number, told, shown) in self._points.items()
            if (number in held) != bool(shown)
        ]
        for usage_point, number, told, shown in changed:
            self._db.execute("UPDATE point SET shown = ? WHERE id = ?", (shown, number))
            self._points[usage_point] = number, told, shown
            self.touched.add(usage_point)

    def _show_series(self, held: set[int]) -> None:
        changed = [
            (line, number, told, int(number in held))
            for line, (number, told, shown) in self._series.items()
            if (number in held) != bool(shown)
        ]
        for line, number, told, shown in changed:
            self._db.execute("UPDATE series SET shown = ? WHERE id = ?", (shown, number))
            self._series[line] = number, told, shown
            self.touched.add(line[0])


class Directories:
    """The directories of all accounts, kept between their visits while the file is as this process left it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state = store.state()
        self._kept: dict[tuple[int, bool], Directory] = {}

    def of(self, db: sqlite3.Connection, account: int, *, personal: bool) -> Directory:
        """Give an account's directory for a visit, within its transaction."""
        if (state := self._store.state()) != self._state:
            self._kept, self._state = {}, state
        if (found := self._kept.get((account, personal))) is None:
            found = self._kept[account, personal] = Directory(db, account, personal=personal)
        found.begin()
        return found


def _named(register: Register) -> tuple[str, str, str, str]:
    return register.point.id, register.name, register.direction, register.unit


_POINTS = "SELECT usage_point, id, shown, commodity, meter, site, name, address FROM point WHERE account = ?"
_SERIES = (
    "SELECT series.id, series.shown, usage_point, register, direction, unit, form, resolution, nature, kind, portal_unit,"
    " description FROM series JOIN point ON point.id = series.point WHERE account = ?"
)
_NEW_POINT = "INSERT INTO point (account, usage_point, commodity, meter, site, name, address) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SAY_POINT = "UPDATE point SET commodity = ?, meter = ?, site = ?, name = ?, address = ? WHERE id = ?"
_NEW_SERIES = (
    "INSERT INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SAY_SERIES = "UPDATE series SET nature = ?, kind = ?, portal_unit = ?, description = ? WHERE id = ?"
