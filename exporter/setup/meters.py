"""Which meters of an account are read: named by people where the portal lists none, ticked where it does."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from exporter.errors import ConfigError
from exporter.models import Discovery
from exporter.setup import questions
from exporter.setup.draft import Draft, SetupOptions, load_draft, require_flag
from exporter.setup.forms import PortalForm, build_cem_selection
from exporter.setup.tree import describe_counters, list_fitting_choices


def choose_meters(draft: Draft, options: SetupOptions) -> None:
    """Let people say which meters are read, where that is known or needed before the portal is asked."""
    form, known = draft.form, {draft.form.find_number(meter): meter for meter in draft.meters} if draft.form.fields else {}
    if options.meters:
        draft.entry |= build_selection(form, options.meters, draft.meters)
    elif form.fields and not options.yes:
        draft.entry[form.selection_key] = ask_meters(form, known)
    elif form.fields and not known:
        require_flag(None, "--meter")
    if form.asks_production:
        choose_usage_points(draft, options)


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
    if len(meters) > 1 and not questions.confirm(f"Keep all {len(meters)} meters?"):
        choices = [questions.Choice(form.format_meter(meter), (number,)) for number, meter in known.items()]
        meters = [known[number] for number in questions.ask_choices(choices, list(known))]
    while not meters or questions.confirm("Another meter?", default=False):
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


def choose_usage_points(draft: Draft, options: SetupOptions) -> None:
    """Let people tick usage points, which a token names, and say which of them have injection."""
    key, known = draft.form.selection_key, {str(point.get("prm")): point for point in draft.meters}
    if options.yes:
        prms = list(known) or (sorted(load_draft(draft, options).configured_usage_points()) if options.production else [])
    else:
        if not draft.form.fields and not options.meters:
            draft.entry.pop(key, None)
        prms = sorted(load_draft(draft, options).configured_usage_points())
        if not draft.form.fields and len(prms) > 1 and not options.meters:
            prms = questions.ask_choices([questions.Choice(prm, (prm,)) for prm in prms], list(known) or prms)
    points = [dict(known.get(prm, {"prm": prm})) for prm in prms]
    ask_production(points, draft.known, options)
    if points:
        draft.entry[key] = points


def ask_production(points: Sequence[dict[str, Any]], known: Set[str], options: SetupOptions) -> None:
    """Ask which of the usage points that are not known have injection, unless flags tell it."""
    asks = not options.yes and not options.production
    for point in points:
        prm = point["prm"]
        question = f"Does {prm} have injection, from solar panels?"
        if prm in options.production or (asks and prm not in known and questions.confirm(question, default=False)):
            point["production"] = True


def find_missing(draft: Draft, discovery: Discovery) -> list[str]:
    """Return the numbers of the configured meters of which the portal has nothing; it tells of them in their order."""
    pairs = zip(draft.meters, discovery.findings, strict=False)
    return [
        draft.form.find_number(meter) if draft.form.fields else str(meter["prm"])
        for meter, finding in pairs
        if finding.is_missing
    ]


def correct_meters(draft: Draft, missing: Sequence[str], options: SetupOptions) -> None:
    """Ask again for the meters that were not found."""
    form = draft.form
    known = {form.find_number(meter): meter for meter in draft.meters}
    if len(form.fields) == 1:
        draft.entry[form.selection_key] = meters = ask_meters(form, known)
        if form.asks_production:
            ask_production(meters, draft.known | known.keys(), options)
        return
    draft.entry[form.selection_key] = [ask_meter(form, meter) if number in missing else meter for number, meter in known.items()]


def choose_counters(draft: Draft, discovery: Discovery, options: SetupOptions) -> None:
    """Let people tick what is read of what the portal lists; raise ConfigError where a flag names what it does not."""
    if draft.form.selection_key != "counters":
        return
    if missing := set(options.meters) - describe_counters(discovery.findings).keys():
        raise ConfigError(
            f"not found: {', '.join(sorted(missing))}; `discover` prints the numbers; the configuration is as it was"
        )
    if options.meters or options.yes:
        return
    before = [str(number) for number in (draft.entry.get("counters") or {}).get("include", [])]
    draft.entry.pop("counters", None)
    choices = list_fitting_choices(discovery.findings)
    if len(choices) == 1 or questions.confirm("Read all of it?", default=not before):
        return
    there = describe_counters(discovery.findings).keys()
    numbers = questions.ask_choices(choices, before) if choices else ask_counters(there)
    draft.entry |= build_cem_selection(numbers)


def ask_counters(there: Set[str]) -> list[str]:
    """Return the counters that people name where there are too many to be ticked."""
    question = "Too many sites to be ticked here: the numbers of the counters (`discover` prints them; with blanks between)"
    return questions.ask_words(question, check=lambda number: "" if number in there else "is not there")


def set_intervals(draft: Draft, discovery: Discovery) -> None:
    """Read quarter-hours where the portal has them, unless the configuration says otherwise."""
    by_number = {str(finding.facts["ean"]): finding for finding in discovery.findings if "ean" in finding.facts}
    for meter in draft.meters:
        finding = by_number.get(str(meter.get("ean"))) if isinstance(meter, dict) else None
        if finding and "intervals" not in meter and any(child.facts.get("line") == "intervals" for child in finding.children):
            meter["intervals"] = True
