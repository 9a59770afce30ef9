"""What `discover` shows of a CEM account: site > meter > counter, and the configuration that selects them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from exporter.models import Discovery, Finding, UsagePoint, natural_sort_key
from exporter.portals.cem.catalog import Catalog, CatalogEntry, build_never_read_notes
from exporter.portals.cem.lists import CounterRow
from exporter.portals.cem.metadata import MetadataStore
from exporter.portals.cem.parser import parse_milliseconds
from exporter.portals.register_kinds import name_kind


async def discover_counters(metadata: MetadataStore) -> Discovery:
    """Return what the lists of an account hold, requested now."""
    catalog = await metadata.load_catalog()
    notes = [*(str(failure) for failure in metadata.failures), *metadata.list_skip_notes(), *await metadata.list_notes()]
    return build_discovery(catalog, notes)


def build_discovery(catalog: Catalog, notes: Sequence[str] = ()) -> Discovery:
    """Return all counters of an account, those not shown with the reason."""
    sites: dict[str, dict[UsagePoint, list[CatalogEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in (catalog.entries | catalog.selected).values():
        point = entry.register.usage_point
        sites[_build_path(catalog, point)][point].append(entry)
    tree = tuple(
        _build_site_finding(catalog, path, points)
        for path, points in sorted(sites.items(), key=lambda site: natural_sort_key(site[0]))
    )
    catalog_notes = [*catalog.build_notes(), *build_never_read_notes(catalog.find_never_read_counters())]
    return Discovery(tree, _format_config(catalog), (*notes, *catalog_notes))


def _build_path(catalog: Catalog, point: UsagePoint) -> str:
    meter = catalog.meters.get(int(point.id))
    names = [row.name for row in catalog.objects.list_named_ancestors(meter.object_id if meter else None)]
    return " / ".join(reversed(names)) or point.site or "no object"


def _build_site_finding(catalog: Catalog, path: str, points: Mapping[UsagePoint, list[CatalogEntry]]) -> Finding:
    meters = [catalog.meters.get(int(point.id)) for point in points]
    objects = sorted({row.id for meter in meters if meter for row in catalog.objects.list_named_ancestors(meter.object_id)[:1]})
    children = tuple(
        _build_meter_finding(catalog, point, points[point]) for point in sorted(points, key=lambda point: int(point.id))
    )
    return Finding(path, {"objects": objects}, children, printed=("objects",))


def _build_meter_finding(catalog: Catalog, point: UsagePoint, entries: Sequence[CatalogEntry]) -> Finding:
    meter = catalog.meters.get(int(point.id))
    removed = parse_milliseconds(meter.removed) if meter else None
    facts = {"me_id": int(point.id), "serial": point.meter, "name": point.name, "commodity": str(point.commodity)}
    text = " ".join(["meter", point.id, *(part for part in (point.meter, point.name) if part)])
    children = tuple(_build_counter_finding(entry) for entry in sorted(entries, key=lambda entry: entry.counter.id))
    if removed:
        text, facts = f"{text}, removed {removed:%Y-%m-%d}", facts | {"removed": _format_instant(removed)}
    return Finding(text, facts, children, printed=("commodity",))


def _build_counter_finding(entry: CatalogEntry) -> Finding:
    row, type_info = entry.counter, entry.type_info
    last = _format_last_value(row, type_info.portal_unit)
    name = name_kind(type_info.key) or f"type {row.type}"
    hidden = f" (not shown: {entry.hidden_reason})" if entry.hidden_reason else ""
    facts = {
        "var_id": row.id,
        "kind": type_info.key,
        "type_id": row.type,
        "nature": str(type_info.nature),
        "portal_nature": type_info.value_type_name,
        "unit": type_info.portal_unit,
        "description": row.name,
        "part_of": entry.register.part_of,
        "value": row.value,
        "time": _format_instant(parse_milliseconds(row.time)),
        "shown": not entry.hidden_reason,
        "reason": entry.hidden_reason,
    }
    return Finding(f"counter {row.id} {name}{' ' + row.name if row.name else ''}: {last}{hidden}", facts, printed=())


def _format_last_value(row: CounterRow, unit: str) -> str:
    at = parse_milliseconds(row.time)
    return f"{row.value:.12g} {unit}".strip() + f" at {at:%Y-%m-%d %H:%M} UTC" if row.value is not None and at else "never read"


def _format_config(catalog: Catalog) -> str:
    entries = sorted(catalog.selected.values(), key=lambda entry: entry.counter.id)
    if not entries:
        return "counters:\n  include: []\n"
    return "counters:\n  include:\n" + "".join(f"    - {entry.counter.id}  # {_format_comment(entry)}\n" for entry in entries)


def _format_comment(entry: CatalogEntry) -> str:
    point = entry.register.usage_point
    text = ", ".join(part for part in (point.site, point.meter, entry.type_info.key, entry.counter.name) if part)
    return "".join(character if character.isprintable() else " " for character in text)


def _format_instant(at: datetime | None) -> str:
    return at.isoformat() if at else ""
