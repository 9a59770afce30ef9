"""Names for usage points whose numbers would be shown."""

from collections.abc import Mapping, Set

from exporter.models import Discovery
from exporter.setup import questions
from exporter.setup.draft import Draft, SetupOptions, load_draft
from exporter.setup.forms import Check
from exporter.setup.tree import suggest_meter_names

MAX_NAMES = 10
"""Of more meters the names are not asked one by one."""


def name_usage_points(draft: Draft, discovery: Discovery, options: SetupOptions) -> None:
    """Ask for names of the usage points whose numbers would be shown; names of those no longer read are dropped."""
    aliases = {str(number): str(name) for number, name in (draft.entry.get("aliases") or {}).items()} | options.names
    suggested = suggest_names(draft, discovery, options)
    if draft.form.selection_key != "counters":
        aliases = {number: name for number, name in aliases.items() if number in suggested}
    pending = {number: name for number, name in suggested.items() if number not in aliases and number not in draft.known}
    if options.suggest_names:
        aliases |= {number: name for number, name in pending.items() if name}
    elif not options.yes and not options.names and pending:
        aliases |= ask_names(pending, aliases)
    if aliases:
        draft.entry["aliases"] = aliases
    else:
        draft.entry.pop("aliases", None)


def suggest_names(draft: Draft, discovery: Discovery, options: SetupOptions) -> dict[str, str]:
    """Return every usage point that is read, with a name to suggest or an empty text."""
    if draft.form.selection_key == "counters":
        selected = {str(number) for number in (draft.entry.get("counters") or {}).get("include", [])}
        return suggest_meter_names(discovery.findings, selected)
    points = sorted(load_draft(draft, options).configured_usage_points())
    commodities = {
        str(meter["ean"]): str(meter["commodity"]) for meter in draft.meters if isinstance(meter, dict) and "ean" in meter
    }
    counts = list(commodities.values())
    return {point: commodity if counts.count(commodity := commodities.get(point, "")) == 1 else "" for point in points}


def ask_names(pending: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return names for usage points: one by one, or all as suggested where they are many."""
    if len(pending) > MAX_NAMES:
        example = next(iter(pending.values()))
        question = f"Name the {len(pending)} meters by place and kind, such as {example!r}?"
        return dict(pending) if questions.confirm(question) else {}
    names: dict[str, str] = {}
    for number, suggested in pending.items():
        used = {*others.values(), *names.values(), *(pending.keys() - {number})}
        name = questions.ask(f"A name for {number} (empty: none)", suggested, _check_unused(used))
        names |= {number: name} if name else {}
    return names


def _check_unused(names: Set[str]) -> Check:
    return lambda text: "this name is used already" if text in names else ""
