"""What `discover` shows of an account: site > meter > counter, and the lines of the configuration that select it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from exporter.model import Discovery, Finding, Note, UsagePoint
from exporter.portals.cem.answers import Counter, instant
from exporter.portals.cem.estate import Estate, Line, never_read


def discovery(estate: Estate, natures: Mapping[int, str], notes: Sequence[str] = ()) -> Discovery:
    """Lay out all counters of an account, those that are not shown with the reason; `natures` names the `pot_type`s."""
    sites: dict[str, dict[UsagePoint, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in estate.lines.values():
        point = line.register.point
        sites[_path(estate, point)][point].append(line)
    tree = tuple(_site(estate, path, points, natures) for path, points in sorted(sites.items()))
    said = (*notes, *(note.text for note in [*estate.notes(), *never_read(estate.waiting())] if isinstance(note, Note)))
    return Discovery(tree, _config(estate), said)


def _path(estate: Estate, point: UsagePoint) -> str:
    meter = estate.meters.get(int(point.id))
    names = [place.name for place in estate.places.named(meter.place if meter else None)]
    return " / ".join(reversed(names)) or point.site or "no object"


def _site(estate: Estate, path: str, points: Mapping[UsagePoint, list[Line]], natures: Mapping[int, str]) -> Finding:
    meters = [estate.meters.get(int(point.id)) for point in points]
    objects = sorted({place.id for meter in meters if meter for place in estate.places.named(meter.place)[:1]})
    under = tuple(_meter(estate, point, points[point], natures) for point in sorted(points, key=lambda point: int(point.id)))
    return Finding(path, {"objects": objects}, under)


def _meter(estate: Estate, point: UsagePoint, lines: Sequence[Line], natures: Mapping[int, str]) -> Finding:
    meter = estate.meters.get(int(point.id))
    removed = instant(meter.removed) if meter else None
    facts = {"me_id": int(point.id), "serial": point.meter, "name": point.name, "commodity": str(point.commodity)}
    text = " ".join(["meter", point.id, *(part for part in (point.meter, point.name) if part)])
    gone = f", removed {removed:%Y-%m-%d}" if removed else ""
    under = tuple(_counter(line, natures) for line in sorted(lines, key=lambda line: line.counter.id))
    return Finding(text + gone, facts | ({"removed": _iso(removed)} if removed else {}), under)


def _counter(line: Line, natures: Mapping[int, str]) -> Finding:
    row, kind = line.counter, line.kind
    last = _last(row, kind.portal_unit)
    name = kind.key or f"type {row.type}"
    hidden = f" (not shown: {line.hidden})" if line.hidden else ""
    facts = {
        "var_id": row.id,
        "kind": kind.key,
        "nature": str(kind.nature),
        "portal_nature": natures.get(kind.number, "") if kind.number is not None else "",
        "unit": kind.portal_unit,
        "description": row.name,
        "value": row.value,
        "time": _iso(instant(row.time)),
        "shown": not line.hidden,
        "reason": line.hidden,
    }
    return Finding(f"counter {row.id} {name}{' ' + row.name if row.name else ''}: {last}{hidden}", facts)


def _last(row: Counter, unit: str) -> str:
    at = instant(row.time)
    return f"{row.value:.12g} {unit}".strip() + f" at {at:%Y-%m-%d %H:%M} UTC" if row.value is not None and at else "never read"


def _config(estate: Estate) -> str:
    lines = sorted(estate.chosen.values(), key=lambda line: line.counter.id)
    if not lines:
        return "counters:\n  include: []\n"
    return "counters:\n  include:\n" + "".join(f"    - {line.counter.id}  # {_comment(line)}\n" for line in lines)


def _comment(line: Line) -> str:
    point = line.register.point
    said = ", ".join(part for part in (point.site, point.meter, line.kind.key, line.counter.name) if part)
    return "".join(character if character.isprintable() else " " for character in said)


def _iso(at: datetime | None) -> str:
    return at.isoformat() if at else ""
