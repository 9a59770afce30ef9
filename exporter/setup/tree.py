"""What an account holds, as lines to tick, and as names to suggest."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from exporter.models import Finding
from exporter.register_kinds import name_kind
from exporter.setup.questions import Choice

MAX_LINES = 2000
"""More lines than these are too slow to show and to look through: counters, and then meters, are left out."""


def list_choices(findings: Sequence[Finding], place: str = "", depth: int = 0, levels: int = 3) -> Iterator[Choice]:
    """Return what can be ticked, branches before their parts; a branch stands for what is shown by itself below it.

    A part begins with the name of its site, so that a filter finds it by that.
    """
    for finding in findings:
        name = name_site(finding) if depth == 0 else place
        if numbers := tuple(list_numbers(finding)):
            yield Choice("  " * depth + (f"{place} · " if place else "") + finding.text, numbers)
        if depth + 1 < levels:
            yield from list_choices(finding.children, name, depth + 1, levels)


def list_fitting_choices(findings: Sequence[Finding]) -> list[Choice]:
    """Return the lines of as many levels as can be shown, none where even the sites are too many."""
    for levels in (3, 2, 1):
        if len(choices := list(list_choices(findings, levels=levels))) <= MAX_LINES:
            return choices
    return []


def list_numbers(finding: Finding) -> Iterator[str]:
    """Return the numbers that a line stands for: its own, though it be hidden otherwise, or those shown below it."""
    if (number := _find_number(finding)) is not None:
        yield number
    for child in finding.children:
        if child.facts.get("shown", True):
            yield from list_numbers(child)


def _find_number(finding: Finding) -> str | None:
    number = finding.facts.get("var_id", finding.facts.get("prm"))
    return None if number is None else str(number)


def describe_counters(sites: Sequence[Finding]) -> dict[str, str]:
    """Return what each counter is, for the comment beside its number: its site, the meter's serial, and what it measures."""
    return {
        str(counter.facts["var_id"]): "".join(
            letter if letter.isprintable() else " " for letter in _describe_counter(site, meter, counter)
        )
        for site in sites
        for meter in site.children
        for counter in meter.children
        if "var_id" in counter.facts
    }


def _describe_counter(site: Finding, meter: Finding, counter: Finding) -> str:
    parts = (
        name_site(site),
        meter.facts.get("serial"),
        name_kind(str(counter.facts.get("kind", ""))),
        counter.facts.get("description"),
    )
    return ", ".join(str(part) for part in parts if part)


def name_site(site: Finding) -> str:
    """Return the last part of the path of a site."""
    return site.text.rpartition(" / ")[2]


def suggest_meter_names(sites: Sequence[Finding], selected: Collection[str] = ()) -> dict[str, str]:
    """Return a name for each meter of which something is read: its site and what it measures; all is read where none is given."""
    names: dict[str, str] = {}
    for site in sites:
        for meter in site.children:
            read = [counter for counter in meter.children if _is_read(counter, selected)]
            if "me_id" in meter.facts and read:
                kind = meter.facts.get("name") or name_kind(str(read[0].facts.get("kind", ""))) or meter.facts.get("commodity")
                names[str(meter.facts["me_id"])] = f"{name_site(site)} {kind}"
    counts = Counter(names.values())
    return {number: name if counts[name] == 1 else f"{name} {number}" for number, name in names.items()}


def _is_read(counter: Finding, selected: Collection[str]) -> bool:
    return _find_number(counter) in selected if selected else bool(counter.facts.get("shown"))
