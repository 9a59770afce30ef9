"""The usage points and series of an account: found, begun, described and shown, only what differs being written."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.model import Inventory, Register, UsagePoint

Line = tuple[str, str, str, str, str, str]
"""Usage point, register, direction, unit, form, resolution."""
Form = tuple[str, str]
"""`index`, `interval` or `peak`; resolution, empty for an index."""
Row = tuple[int, tuple[str, ...], int]
"""Number in the file, what is told of it, whether it is shown."""


@dataclass(frozen=True, slots=True)
class Known:
    """A register whose series was found during this visit; held, so that no other can come to stand at its address."""

    register: Register
    series: dict[Form, int]


class Directory:
    """What the file holds of an account's points and series, as of the transaction that it was read in."""

    def __init__(self, db: sqlite3.Connection, account: int, *, personal: bool) -> None:
        self._db, self._account, self._personal = db, account, personal
        self.touched: set[str] = set()
        """The usage points of which something was written."""
        alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._points: dict[str, Row] = {
            usage_point: (number, tuple(told), shown) for usage_point, number, shown, *told in db.execute(_POINTS, (account,))
        }
        self._series: dict[Line, Row] = {}
        for number, shown, *line, nature, kind, unit, description in db.execute(_SERIES, (account,)):
            told = (nature, kind, unit, description)
            self._series[tuple(line)] = number, alike.setdefault(told, told), shown
        self._met_points: dict[int, tuple[UsagePoint, int]] = {}
        self._met: dict[int, Known] = {}

    def series(self, register: Register, form: Form) -> int:
        """Give the number of a register's series, begun where there is none; one object is looked at but once a visit."""
        known = self._met.get(id(register))
        if known is None:
            known = self._met[id(register)] = Known(register, {})
        if (number := known.series.get(form)) is None:
            number = known.series[form] = self._described((*_named(register), *form), register)
        return number

    def point(self, point: UsagePoint) -> int:
        """Give the number of a usage point, begun where there is none."""
        met = self._met_points.get(id(point))
        if met is None:
            met = self._met_points[id(point)] = point, self._point(point)
        return met[1]

    def usage_points(self, series: Iterable[int]) -> set[str]:
        """Name the usage points that these series belong to."""
        wanted = set(series)
        return {line[0] for line, (number, _, _) in self._series.items() if number in wanted} if wanted else set()

    def hold(self, inventory: Inventory) -> None:
        """Show what the account holds, and nothing else."""
        held = {self.point(point) for point in inventory.points}
        if inventory.registers is None:
            lines = {row[0] for line, row in self._series.items() if self._points[line[0]][0] in held}
        else:
            lines = self._of_registers(inventory.registers, held)
        self._show_points(held)
        self._show_series(lines)

    def _of_registers(self, registers: Iterable[Register], held: set[int]) -> set[int]:
        names = set()
        for register in registers:
            names.add(name := _named(register))
            if id(register) not in self._met:
                for form in ("index", "interval"):
                    if (*name, form, "") in self._series:
                        self.series(register, (form, ""))
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
            number = int(self._db.execute(_NEW_POINT, (self._account, point.id, *said)).lastrowid or 0)
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
