"""What is kept of an account's part of the page: leaves of some hundred usage points, renewed where readings change."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from exporter.ledger import Look
from exporter.metrics.ages import INSTANT, Ages
from exporter.metrics.derive import Draft, Months, name_of, say
from exporter.metrics.sheet import Sheet
from exporter.metrics.words import Labels, Samples, Shown

POINTS = 500
"""How many usage points a leaf has: few enough that a change costs little, many enough that gzip has something to say."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """All that is said of a run of usage points; never changed, only replaced."""

    sheets: Mapping[str, Sheet] = field(default_factory=dict)
    """By family."""
    months: Mapping[Labels, Months] = field(default_factory=dict)
    ages: Ages = field(default_factory=lambda: Ages([], []))

    def with_draft(self, names: Collection[str], draft: Draft) -> Self:
        """Say anew what is said of the usage points under these names."""
        sheets = dict(self.sheets)
        for family in self.sheets.keys() | draft.samples.keys():
            sheet = _renewed(sheets.pop(family, None), family, names, draft.samples.get(family, {}))
            if sheet is not None:
                sheets[family] = sheet
        months = {labels: peaks for labels, peaks in self.months.items() if labels[1] not in names} | draft.months
        same = sheets.get(INSTANT) is self.sheets.get(INSTANT)
        ages = self.ages if same else Ages.of(sheets[INSTANT]) if INSTANT in sheets else Ages([], [])
        return type(self)(sheets, months, ages)


class Derived:
    """All that an account's readings say, as lines that are kept, and what a render needs to say the rest.

    Never changed, only replaced.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf] = (),
        where: Mapping[str, int] | None = None,
        under: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.leaves = leaves
        self.where: Mapping[str, int] = where or {}
        """Name shown -> the place of its leaf."""
        self.under: Mapping[str, Sequence[str]] = under or {}
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
    return renewed(Derived(), look, shown, None)


def renewed(derived: Derived, look: Look, shown: Shown, usage_points: Collection[str] | None) -> Derived:
    """Work out anew what is said of these usage points (None: of all), and keep the rest."""
    names = {name_of(shown, usage_point) for usage_point in usage_points or ()}
    asked = usage_points and {*usage_points, *(under for name in names for under in derived.under.get(name, (name,)))}
    work = _Work(derived)
    if asked != set():
        say(look, shown, work.draft_of, asked)
    leaves = list(derived.leaves)
    for place in sorted({*work.drafts, *(derived.where[name] for name in names & derived.where.keys())}):
        if place == len(leaves):
            leaves.append(Leaf())
        leaves[place] = leaves[place].with_draft(names, work.drafts.get(place) or Draft())
    points = {name: under for draft in work.drafts.values() for name, under in draft.points.items()}
    where = {name: place for name, place in work.where.items() if name in points or name not in names}
    odd = {name: under for name, under in derived.under.items() if name not in names}
    return Derived(leaves, where, odd | {name: under for name, under in points.items() if under != [name]})


class _Work:
    """Finds the draft that a name is written into: of its own leaf, or of the last one while that has room."""

    def __init__(self, derived: Derived) -> None:
        self.where = dict(derived.where)
        self.drafts: dict[int, Draft] = defaultdict(Draft)
        self._place = max(len(derived.leaves) - 1, 0)
        self._room = POINTS - sum(place == self._place for place in derived.where.values())

    def draft_of(self, name: str) -> Draft:
        place = self.where.get(name)
        if place is None:
            if self._room <= 0:
                self._place, self._room = self._place + 1, POINTS
            self._room -= 1
            place = self.where[name] = self._place
        return self.drafts[place]


def _renewed(sheet: Sheet | None, family: str, names: Collection[str], told: Mapping[Labels, float]) -> Sheet | None:
    """Give a family's lines with what is told now of these names; the sheet as it was where nothing differs."""
    if sheet is None:
        return Sheet.of(family, told) if told else None
    before = {labels: value for labels, value in sheet.values.items() if labels[1] in names}
    gone = before.keys() - told.keys()
    new = {labels: value for labels, value in told.items() if before.get(labels) != value}
    if not gone and not new:
        return sheet
    return sheet.replaced(gone, new) if len(gone) < len(sheet.values) or new else None
