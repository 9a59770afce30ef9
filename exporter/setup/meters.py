"""Which meters of an account are read: named by people where the portal lists none, ticked where it does; and their names."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

from exporter.errors import ConfigError
from exporter.models import Discovery, Finding
from exporter.portals.register_kinds import name_kind
from exporter.setup import questions
from exporter.setup.draft import Draft, SetupOptions, load_draft, require_flag
from exporter.setup.forms import Check, PortalForm, build_cem_selection
from exporter.setup.questions import Choice

MAX_LINES = 2000
"""More lines than these are too slow to show and to look through: counters, and then meters, are left out."""
MAX_NAMES = 10
"""Of more meters the names are not asked one by one."""


def choose_meters(draft: Draft, options: SetupOptions) -> Draft:
    """Return the account with the meters that people name, where that is known or needed before the portal is asked."""
    form, known = draft.form, {draft.form.find_number(meter): meter for meter in draft.meters} if draft.form.fields else {}
    if options.meters:
        draft = draft.with_keys(build_selection(form, options.meters, draft.meters))
    elif form.fields and not options.yes:
        draft = draft.with_meters(ask_meters(form, known))
    elif form.fields and not known:
        require_flag(None, "--meter")
    return choose_usage_points(draft, options) if form.asks_production else draft


def choose_counters(draft: Draft, discovery: Discovery, options: SetupOptions) -> Draft:
    """Return the account with the counters that people tick of what the portal lists, where it lists any.

    Raise ConfigError where a flag names what it does not.
    """
    if draft.form.selection_key != "counters":
        return draft
    there = describe_counters(discovery.findings).keys()
    if missing := set(options.meters) - there:
        raise ConfigError(
            f"not found: {', '.join(sorted(missing))}; `discover` prints the numbers; the configuration is as it was"
        )
    if options.meters or options.yes:
        return draft
    before = [str(number) for number in (draft.entry.get("counters") or {}).get("include", [])]
    everything = draft.without("counters")
    choices = list_fitting_choices(discovery.findings)
    if len(choices) == 1 or questions.confirm("Read all of it? (No: tick what)", default=not before):
        return everything
    return everything.with_keys(build_cem_selection(questions.ask_choices(choices, before) if choices else ask_counters(there)))


def correct_meters(draft: Draft, missing: Sequence[str], options: SetupOptions) -> Draft:
    """Return the account with other meters in the place of those that were not found."""
    form = draft.form
    known = {form.find_number(meter): meter for meter in draft.meters}
    if len(form.fields) > 1:
        return draft.with_meters([ask_meter(form, meter) if number in missing else meter for number, meter in known.items()])
    meters = ask_meters(form, known)
    return draft.with_meters(ask_production(meters, draft.known | known.keys(), options) if form.asks_production else meters)


def find_missing(draft: Draft, discovery: Discovery) -> list[str]:
    """Return the numbers of the configured meters of which the portal has nothing; it tells of them in their order."""
    pairs = zip(draft.meters, discovery.findings, strict=False)
    return [
        draft.form.find_number(meter) if draft.form.fields else str(meter["prm"])
        for meter, finding in pairs
        if finding.is_missing
    ]


def set_intervals(draft: Draft, discovery: Discovery) -> Draft:
    """Return the account with quarter-hours where the portal has them, unless the configuration says otherwise."""
    found = {
        str(finding.facts["ean"])
        for finding in discovery.findings
        if "ean" in finding.facts and any(child.facts.get("line") == "intervals" for child in finding.children)
    }
    if not found:
        return draft
    return draft.with_meters(
        [
            {**meter, "intervals": True} if str(meter.get("ean")) in found and "intervals" not in meter else meter
            for meter in draft.meters
        ]
    )


def name_usage_points(draft: Draft, discovery: Discovery, options: SetupOptions) -> Draft:
    """Return the account with names of usage points whose numbers would be shown, without those of what is no longer read."""
    aliases = {str(number): str(name) for number, name in (draft.entry.get("aliases") or {}).items()} | options.names
    suggested = suggest_names(draft, discovery, options)
    if draft.form.selection_key != "counters":
        aliases = {number: name for number, name in aliases.items() if number in suggested}
    pending = {number: name for number, name in suggested.items() if number not in aliases and number not in draft.known}
    if options.suggest_names:
        aliases |= {number: name for number, name in pending.items() if name}
    elif not options.yes and not options.names and pending:
        aliases |= ask_names(pending, aliases)
    return draft.with_keys({"aliases": aliases}) if aliases else draft.without("aliases")


def build_selection(form: PortalForm, words: Sequence[str], known: Sequence[Any]) -> dict[str, Any]:
    """Return the keys that select what `words` name; a meter that is configured already keeps its other keys."""
    if form.selection_key == "counters":
        return build_cem_selection(words)
    meters = [form.parse_meter(word) if form.fields else {"prm": word} for word in words]
    old = {form.format_meter(meter): meter for meter in known}
    return {form.selection_key: [old.get(form.format_meter(meter), meter) for meter in meters]}


def ask_meters(form: PortalForm, known: Mapping[str, Any]) -> list[Any]:
    """Return the meters that people name: numbers in one line, or one meter after the other where it has more than a number."""
    first, *others = form.fields
    if not others:
        numbers = questions.ask_words(first.question, " ".join(known), first.check)
        return [known.get(number, number if form.has_plain_meters else {first.key: number}) for number in numbers]
    meters = list(known.values())
    if len(meters) > 1 and not questions.confirm(f"Keep all {len(meters)} meters? (No: tick which)"):
        choices = [questions.Choice(form.format_meter(meter), (number,)) for number, meter in known.items()]
        meters = [known[number] for number in questions.ask_choices(choices, list(known))]
    while not meters or questions.confirm("Another meter of this account?", default=False):
        meters.append(ask_meter(form, {}))
    return meters


def ask_meter(form: PortalForm, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return a meter by its parts; those of `old` are suggested."""
    meter = dict(old)
    for one in form.fields:
        before = old.get(one.key, "")
        if one.choices:
            meter[one.key] = questions.choose(one.question, {choice: choice for choice in one.choices}, str(before) or None)
        elif one.has_several:
            words = questions.ask_words(one.question, " ".join(before) if isinstance(before, list) else str(before), one.check)
            meter[one.key] = words if len(words) > 1 else words[0]
        else:
            meter[one.key] = questions.ask(one.question, str(before), one.check)
    return meter


def choose_usage_points(draft: Draft, options: SetupOptions) -> Draft:
    """Return the account with the usage points that people tick, which a token names, and which of them have injection."""
    known = {str(point.get("prm")): point for point in draft.meters}
    if options.yes:
        prms = list(known) or (sorted(load_draft(draft, options).configured_usage_points()) if options.production else [])
    else:
        if not draft.form.fields and not options.meters:
            draft = draft.without(draft.form.selection_key)
        prms = sorted(load_draft(draft, options).configured_usage_points())
        if not draft.form.fields and len(prms) > 1 and not options.meters:
            prms = questions.ask_choices([questions.Choice(prm, (prm,)) for prm in prms], list(known) or prms)
    points = [known.get(prm, {"prm": prm}) for prm in prms]
    return draft.with_meters(ask_production(points, draft.known, options)) if points else draft


def ask_production(points: Sequence[Mapping[str, Any]], known: Set[str], options: SetupOptions) -> list[dict[str, Any]]:
    """Return the usage points with injection where they have it: as flags tell, else as people say of those not known."""
    asks = not options.yes and not options.production
    return [
        {**point, "production": True}
        if point["prm"] in options.production
        or (
            asks
            and point["prm"] not in known
            and questions.confirm(f"Does {point['prm']} have injection, from solar panels?", default=False)
        )
        else dict(point)
        for point in points
    ]


def ask_counters(there: Set[str]) -> list[str]:
    """Return the counters that people name where there are too many to be ticked."""
    question = "Numbers of the counters (`discover` prints them; blanks between several; there are too many sites to tick)"
    return questions.ask_words(question, check=lambda number: "" if number in there else "is not there")


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
        question = f"Name the {len(pending)} meters by place and kind, such as {example!r}? (No: their numbers are shown)"
        return dict(pending) if questions.confirm(question) else {}
    names: dict[str, str] = {}
    for number, suggested in pending.items():
        used = {*others.values(), *names.values(), *(pending.keys() - {number})}
        name = questions.ask(f"A name for {number} (shown in its place; empty: none)", suggested, _check_unused(used))
        names |= {number: name} if name else {}
    return names


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


def list_fitting_choices(findings: Sequence[Finding]) -> list[Choice]:
    """Return the lines of as many levels as can be shown, none where even the sites are too many."""
    for levels in (3, 2, 1):
        if len(choices := list(list_choices(findings, levels=levels))) <= MAX_LINES:
            return choices
    return []


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


def list_numbers(finding: Finding) -> Iterator[str]:
    """Return the numbers that a line stands for: its own, though it be hidden otherwise, or those shown below it."""
    if (number := _find_number(finding)) is not None:
        yield number
    for child in finding.children:
        if child.facts.get("shown", True):
            yield from list_numbers(child)


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


def name_site(site: Finding) -> str:
    """Return the last part of the path of a site."""
    return site.text.rpartition(" / ")[2]


def _describe_counter(site: Finding, meter: Finding, counter: Finding) -> str:
    parts = (
        name_site(site),
        meter.facts.get("serial"),
        name_kind(str(counter.facts.get("kind", ""))),
        counter.facts.get("description"),
    )
    return ", ".join(str(part) for part in parts if part)


def _find_number(finding: Finding) -> str | None:
    number = finding.facts.get("var_id", finding.facts.get("prm"))
    return None if number is None else str(number)


def _is_read(counter: Finding, selected: Collection[str]) -> bool:
    return _find_number(counter) in selected if selected else bool(counter.facts.get("shown"))


def _check_unused(names: Set[str]) -> Check:
    return lambda text: "this name is used already" if text in names else ""
