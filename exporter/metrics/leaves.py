"""What is kept of an account's part of the page: leaves of some hundred usage points, renewed where readings change."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Self

from exporter.ledger import Look, Recorded
from exporter.metrics.ages import INSTANT, Ages
from exporter.metrics.derive import STANDING, Draft, Months, name_of, say, say_readings
from exporter.metrics.sheet import Sheet
from exporter.metrics.words import Labels, Samples, Shown

POINTS = 500
"""How many usage points a leaf has: few enough that a change costs little, many enough that gzip has something to say."""
LEAVES_AT_A_TIME = 10


@dataclass(frozen=True, slots=True)
class Leaf:
    """All that is said of a run of usage points; never changed, only replaced."""

    sheets: Mapping[str, Sheet] = field(default_factory=dict)
    """By family."""
    months: Mapping[Labels, Months] = field(default_factory=dict)
    ages: Ages = field(default_factory=lambda: Ages([], []))

    def with_draft(self, names: Set[str], draft: Draft, standing: Set[str] = frozenset()) -> Self:
        """Say anew what is said of the usage points under these names, but for the families that stand."""
        sheets = dict(self.sheets)
        for family in (self.sheets.keys() | draft.samples.keys()) - standing:
            before, told = sheets.pop(family, None), draft.samples.get(family, {})
            if sheet := before.replaced(names, told) if before else Sheet.of(family, told):
                sheets[family] = sheet
        months = {labels: peaks for labels, peaks in self.months.items() if labels[1] not in names} | draft.months
        return type(self)(sheets, months, self._aged(sheets.get(INSTANT)))

    def _aged(self, instants: Sheet | None) -> Ages:
        before = self.sheets.get(INSTANT)
        if instants is None:
            return Ages([], [])
        return self.ages.renewed(before, instants) if before else Ages.of(instants)


class Derived:
    """All that an account's readings say, as lines that are kept, and what a render needs to say the rest.

    Never changed, only replaced.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf] = (),
        where: Mapping[str, int] | None = None,
        under: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.leaves = leaves
        self.where: Mapping[str, int] = where or {}
        """Name shown -> the place of its leaf."""
        self.under: Mapping[str, list[str]] = under or {}
        """Name shown -> its usage points, where it is not the name of just one."""
        self.sheets: dict[str, list[Sheet]] = defaultdict(list)
        """The kept lines by family, in the order of the page."""
        for leaf in leaves:
            for family, sheet in leaf.sheets.items():
                self.sheets[family].append(sheet)
        self.months = {labels: months for leaf in leaves for labels, months in leaf.months.items()}
        """(account, usage_point) -> its monthly peaks."""

    @property
    def samples(self) -> Samples:
        """Give all samples that are kept, by family and labels."""
        return {
            family: {labels: value for sheet in sheets for labels, value in sheet.values.items()}
            for family, sheets in self.sheets.items()
        }


def derive(look: Look, shown: Shown) -> Derived:
    """Work out what the page says of all that an account holds."""
    growth = _Growth(Derived())
    growth.renew(look, shown, None)
    return growth.derived()


def renewed(derived: Derived, look: Look, shown: Shown, recorded: Recorded) -> Derived:
    """Work out anew what a visit has changed, and keep the rest.

    A few leaves at a time: what is new of a whole town would for a moment take as much room as the town does already.
    """
    growth = _Growth(derived)
    whole, read = defaultdict[int | None, list[str]](list), defaultdict[int | None, list[str]](list)
    for usage_point in recorded.points:
        name = name_of(shown, usage_point)
        alone = usage_point not in recorded.described and derived.under.get(name, [name]) == [usage_point]
        place = derived.where.get(name)
        (read if alone and place is not None else whole)[place].append(usage_point)
    if new := whole.pop(None, None):
        growth.begin(look, shown, new)
    for places, renew in ((whole, growth.renew), (read, growth.read)):
        known = sorted(place for place in places if place is not None)
        for start in range(0, len(known), LEAVES_AT_A_TIME):
            few = known[start : start + LEAVES_AT_A_TIME]
            renew(look, shown, [usage_point for place in few for usage_point in places[place]])
    return growth.derived()


class _Growth:
    """Leaves while they are renewed: a name is written into its own leaf, or into the last one while that has room."""

    def __init__(self, derived: Derived) -> None:
        self._leaves, self._where, self._under = list(derived.leaves), dict(derived.where), dict(derived.under)
        self._drafts: dict[int, Draft] = defaultdict(Draft)
        self._last = max(len(self._leaves) - 1, 0)

    @cached_property
    def _room(self) -> int:
        """How many names the last leaf has room for; counted only where there is a new one."""
        return POINTS - sum(place == self._last for place in self._where.values())

    def derived(self) -> Derived:
        return Derived(self._leaves, self._where, self._under)

    def begin(self, look: Look, shown: Shown, usage_points: Collection[str]) -> None:
        """Say new ones in the order in which the ledger met them: neighbours are alike, and gzip makes less of them."""
        ordered = (point.usage_point for point in look.points(shown.account, usage_points))
        while few := list(islice(ordered, LEAVES_AT_A_TIME * POINTS)):
            self.renew(look, shown, few)

    def renew(self, look: Look, shown: Shown, usage_points: Sequence[str] | None) -> None:
        names = {name_of(shown, usage_point) for usage_point in usage_points or ()}
        asked = (
            None if usage_points is None else {*usage_points, *(one for name in names for one in self._under.get(name, [name]))}
        )
        before = {name: self._where[name] for name in names & self._where.keys()}
        say(look, shown, self._draft_of, asked)
        self._note(before)
        for place in sorted({*self._drafts, *before.values()}):
            if place == len(self._leaves):
                self._leaves.append(Leaf())
            self._leaves[place] = self._leaves[place].with_draft(names, self._drafts.pop(place, Draft()))

    def read(self, look: Look, shown: Shown, usage_points: Sequence[str]) -> None:
        """Renew what readings make of usage points that are known, each the only one of its name."""
        names = {name_of(shown, usage_point) for usage_point in usage_points}
        say_readings(look, shown, self._draft_of, usage_points)
        for place in sorted({self._where[name] for name in names}):
            self._leaves[place] = self._leaves[place].with_draft(names, self._drafts.pop(place, Draft()), STANDING)

    def _note(self, before: Collection[str]) -> None:
        """Note which usage points stand under the names, and which names are gone."""
        points = {name: under for draft in self._drafts.values() for name, under in draft.points.items()}
        for name in before:
            self._under.pop(name, None)
            if name not in points:
                del self._where[name]
        self._under |= {name: under for name, under in points.items() if under != [name]}

    def _draft_of(self, name: str) -> Draft:
        place = self._where.get(name)
        if place is None:
            if self._room <= 0:
                self._last, self._room = self._last + 1, POINTS
            self._room -= 1
            place = self._where[name] = self._last
        return self._drafts[place]
