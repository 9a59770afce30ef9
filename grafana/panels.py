"""Panels of one style: a title, a description, a unit, colours by role, and a text of their own where nothing is to be shown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    gauge,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
    trend,
)
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_kinds
from grafana_foundation_sdk.models import prometheus as prometheus_kinds

from grafana.queries import never_empty

NEEDS_HISTORY = "Nothing here: set up remote read (docs/history.md)"
NEEDS_HOURLY = "Nothing here: needs remote read, and readings every hour"
NEEDS_RULES_HOURLY = "Needs remote read, rules, readings every hour"
NEEDS_RULES = "Load prometheus/rules.yaml"
NEEDS_BOTH = "Load prometheus/rules.yaml and set up remote read"
NEEDS_MONTHS = "No whole month known yet, or remote read is not set up"
NOT_SUPPLIED = "The portal does not give it"
HISTORY_USED = " From the history series: Prometheus must read the exporter's history (`remote_read`), or have it by other means."
RULES_USED = " From prometheus/rules.yaml, with the prices and limits of settings.yaml."
SOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")

KWH, M3, KW, KVA, EURO, HOURS = "suffix:kWh", "suffix:m³", "suffix:kW", "suffix:kVA", "prefix:€ ", "suffix:h"
"""Units that stay what they are: Grafana's own turn 11026 kWh into 11 MWh and 5510 euro into 5.51K."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DATE = "time:D MMM"
WEEK_MS = 7 * 86_400_000
WEEK_BEGINS = "week begins"
"""Of an instant in milliseconds."""

CONSUMPTION, INJECTION = "#3F7FD9", "#4FA34A"
COLORS = {"electricity": "#D9A514", "gas": "#A26BC9", "water": CONSUMPTION, "heat": "#D9598C", "cold": "#4FA8B8"}
"""One colour for each commodity, legible on light and dark; blue is consumption elsewhere, green injection."""
YEARS = ("last year", "this year", "expected")
"""What stands behind the commodity in the names of a year's series, in the order that they are shown."""
PALE = {"electricity": "#EBD38F", "gas": "#D3BBE4", "water": "#A5C4EE", "heat": "#EDB3CA", "cold": "#ABD5DC"}
"""The same hue for the year before, and for days that are not complete."""
TARIFFS = {
    "electricity.*": "#EBC453",
    "(electricity )?(day|HP.*)": "#D9A514",
    "(electricity )?(night|HC.*)": "#8C6A0A",
    "gas": COLORS["gas"],
    "water": COLORS["water"],
    "heat": COLORS["heat"],
    "cold": COLORS["cold"],
    "capacity": "#7F7F86",
    "injection": INJECTION,
}

WIDTHS = {"Receiver": 330, "Alert": 260, "Usage point": 170, "Description": 140, "Instance": 150}
WIDTHS |= {"Account": 110, "Site": 95, "Meter": 95, "Register": 90, "Kind": 80, "Job": 80, "Version": 80, "Python": 70}
"""Pixels of columns of text: with the others a table fits a screen of 1280."""
WHOLE_HEADING = {"custom.wrapHeaderText": True}
"""A heading that is longer than its column has a second line, from Grafana 12.2 on."""
LABELS = ("account", "commodity", "description", "instance", "job", "meter", "portal", "register", "site", "usage_point")
"""Labels that are no column unless a table asks for them."""

Steps = Sequence[tuple[float | None, str]]
CALM: Steps = ((None, "green"),)
PLAIN: Steps = ((None, "text"),)
ANY_IS_BAD: Steps = ((None, "text"), (1, "red"))
CHANGE: Steps = ((None, "text"), (-2, "green"), (-0.02, "text"), (0.02, "orange"))
"""Less than last year, or more; what is below -2 is no number."""
AGE: Steps = ((None, "text"), (4 * 86400, "orange"), (7 * 86400, "red"))
COMING: Steps = ((None, "red"), (14 * 86400, "orange"), (30 * 86400, "text"))
SHARE: Steps = ((None, "green"), (0.9, "orange"), (1.05, "red"))

NO_RULES = {"-1": ("rules not loaded", "orange")}

Panel = barchart.Panel | bargauge.Panel | gauge.Panel | heatmap.Panel | stat.Panel | table.Panel | timeseries.Panel | trend.Panel
P = TypeVar(
    "P", barchart.Panel, bargauge.Panel, gauge.Panel, heatmap.Panel, stat.Panel, table.Panel, timeseries.Panel, trend.Panel
)


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its expression, the name of its series, the least distance of its points, and the unit if it differs."""

    expr: str
    legend: str = ""
    step: str = ""
    unit: str = ""
    decimals: int | None = None
    thresholds: Steps = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    nothing: str = ""
    """What is shown where this query has no value, if not the panel's word."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a panel looks: size on a grid of 24, unit, thresholds, words for values and for nothing."""

    unit: str = "none"
    width: int = 4
    height: int = 4
    thresholds: Steps = PLAIN
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Value -> the word shown, and its colour."""
    nothing: str = NOT_SUPPLIED
    decimals: int | None = None
    reach: float | None = None
    """Up to where an axis goes at least: that of zeros alone would go to 100."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its query (with all labels aggregated away that are no column) and how its values look."""

    title: str
    expr: str
    unit: str = "none"
    decimals: int | None = None
    thresholds: Steps = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hidden: bool = False
    """True for a query that is there for its labels."""
    width: int = 72
    """Pixels that its numbers need; Grafana gives it more where there are any, and what its heading needs."""


def stat_panel(
    title: str, description: str, queries: Sequence[Query], style: Style, *, wide: bool = False, listed: bool = False
) -> stat.Panel:
    """Return a panel with the newest value of each series in large letters: `listed` one under the other."""
    panel = stat.Panel().color_mode(kinds.BigValueColorMode.VALUE).graph_mode(kinds.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    panel.text_mode(kinds.BigValueTextMode.VALUE_AND_NAME if wide or listed else kinds.BigValueTextMode.AUTO)
    panel.justify_mode(kinds.BigValueJustifyMode.AUTO).wide_layout(True)
    if wide or listed:
        # One size everywhere; Grafana would shrink all to what the longest name leaves.
        panel.text(common.VizTextDisplayOptions().title_size(14).value_size(20))
    panel.orientation(
        kinds.VizOrientation.HORIZONTAL if listed else kinds.VizOrientation.VERTICAL if wide else kinds.VizOrientation.AUTO
    )
    return _finish(panel, title, description, queries, style, instant=True)


def gauge_panel(title: str, description: str, queries: Sequence[Query], style: Style, largest: float) -> gauge.Panel:
    """Return a panel with a dial for the newest value of each series."""
    panel = gauge.Panel().show_threshold_markers(True).min(0).max(largest).orientation(kinds.VizOrientation.AUTO)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    return _finish(panel, title, description, queries, style, instant=True)


def bar_gauge_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> bargauge.Panel:
    """Return a panel with a bar for the newest value of each series."""
    panel = bargauge.Panel().display_mode(kinds.BarGaugeDisplayMode.BASIC).orientation(kinds.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    panel.value_mode(kinds.BarGaugeValueMode.TEXT).show_unfilled(False).name_placement(kinds.BarGaugeNamePlacement.LEFT)
    panel.sizing(kinds.BarGaugeSizing.MANUAL).min_viz_height(20).max_viz_height(24).min_viz_width(8)
    panel.text(common.VizTextDisplayOptions().value_size(16))
    return _finish(panel.min(0), title, description, queries, style, instant=True)


def line_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> timeseries.Panel:
    """Return a graph of lines; a single point is shown as one."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.LINE).line_width(2)
    return _finish(panel.show_points(kinds.VisibilityMode.AUTO).span_nulls(3 * 86_400_000), title, description, queries, style)


def step_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> timeseries.Panel:
    """Return a graph of mean values, each of which holds until the next point."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.LINE).line_interpolation(kinds.LineInterpolation.STEP_AFTER)
    panel.fill_opacity(15).line_width(1).show_points(kinds.VisibilityMode.NEVER)
    return _finish(panel, title, description, queries, style)


def bar_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> timeseries.Panel:
    """Return a graph of stacked bars from zero, each from its point to the next."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(85).line_width(0).axis_soft_min(0)
    panel.bar_alignment(kinds.BarAlignment.AFTER).bar_width_factor(0.85)
    panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    return _finish(panel, title, description, queries, style)


def point_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> timeseries.Panel:
    """Return a graph of single points, with the lines among them that are limits."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.POINTS).point_size(8).show_points(kinds.VisibilityMode.ALWAYS)
    return _finish(panel.axis_soft_min(0), title, description, queries, style)


def heatmap_panel(title: str, description: str, queries: Sequence[Query], style: Style) -> heatmap.Panel:
    """Return a map of coloured cells: a row for each series, a column up to each point of the graph.

    Grafana draws a cell left of its stamp, so a query stamps the end.
    """
    color = heatmap.HeatmapColorOptions().mode(heat_kinds.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).exponent(0.5)
    color.scale(heat_kinds.HeatmapColorScale.EXPONENTIAL).fill("dark-orange").reverse(False)
    panel = heatmap.Panel().calculate(False).color(color).cell_gap(1).show_value(kinds.VisibilityMode.NEVER)
    panel.cell_values(heatmap.CellValues().unit(style.unit)).show_legend()
    # Grafana hides cells of zero unless told otherwise: they would look like missing ones.
    panel.filter_values(heatmap.FilterValueRange().le(-1))
    panel.y_axis(heatmap.YAxisConfig().axis_placement(kinds.AxisPlacement.LEFT).reverse(True))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.AUTO))
    panel.tooltip(heatmap.HeatmapTooltip().mode(kinds.TooltipDisplayMode.SINGLE).show_color_scale(True))
    return _finish(panel, title, description, queries, style)


def bar_chart_panel(
    title: str, description: str, query: Query, style: Style, rows: str, bars: str, *, stacked: bool = False
) -> barchart.Panel:
    """Return bars side by side or stacked: a group for each value of the label `rows`, a bar for each value of `bars`."""
    panel = barchart.Panel().orientation(kinds.VizOrientation.VERTICAL).fill_opacity(85).line_width(0).axis_soft_min(0)
    panel.stacking(kinds.StackingMode.NORMAL if stacked else kinds.StackingMode.NONE).group_width(0.75).bar_width(0.95)
    panel.show_value(kinds.VisibilityMode.NEVER).legend(_legend()).tooltip(_tooltip()).x_field(f"{rows}\\{bars}")
    panel.x_tick_label_rotation(-45 if stacked else 0).x_tick_label_max_length(8).x_tick_label_spacing(0)
    _finish(panel, title, description, [query], style, instant=True, tabular=True)
    if rows == "month":
        names = {f"{place:02}": (name, "text") for place, name in enumerate(MONTHS, 1)}
        panel.override_by_name(f"{rows}\\{bars}", [model.DynamicConfigValue(id_val="mappings", value=[mapping(names).to_json()])])
    return _matrix(panel, rows, bars)


def trend_panel(title: str, description: str, query: Query, style: Style, weeks: str, lines: str) -> trend.Panel:
    """Return lines over the weeks of a year in the label `weeks`, counted from 0, one line for each value of `lines`."""
    panel = trend.Panel().draw_style(kinds.GraphDrawStyle.LINE).line_width(2).axis_soft_min(0).span_nulls(True)
    panel.show_points(kinds.VisibilityMode.NEVER).legend(_legend()).tooltip(_tooltip()).x_field(WEEK_BEGINS)
    _finish(panel, title, description, [query], style, instant=True, tabular=True)
    _matrix(panel, weeks, lines)
    number = f"{weeks}\\{lines}"
    # A number has ticks like 2.5, so weeks become instants: the axis names days, of 1970, whose year it leaves out.
    instant = {"binary": {"left": number, "operator": "*", "right": str(WEEK_MS)}, "mode": "binary", "alias": WEEK_BEGINS}
    for name, options in (
        ("convertFieldType", {"conversions": [{"targetField": number, "destinationType": "number"}], "fields": {}}),
        ("calculateField", instant | {"replaceFields": False}),
        ("organize", {"indexByName": {WEEK_BEGINS: 0}, "excludeByName": {number: True}, "renameByName": {}}),
    ):
        panel.with_transformation(model.DataTransformerConfig(id_val=name, options=options))
    axis = {"unit": DATE, "min": 0, "max": 52 * WEEK_MS}
    settings = [model.DynamicConfigValue(id_val=name, value=value) for name, value in axis.items()]
    return panel.override_by_name(WEEK_BEGINS, settings)


M = TypeVar("M", barchart.Panel, trend.Panel)


def _matrix(panel: M, rows: str, columns: str) -> M:
    """Turn a table of labels and values into one with a row for each value of one label and a column for each of another."""
    form = {"columnField": columns, "rowField": rows, "valueField": "Value", "emptyValue": "null"}
    panel.with_transformation(model.DataTransformerConfig(id_val="groupingToMatrix", options=form))
    if columns == "year":
        # Columns come in the order of the answer, which is any.
        years: list[str] = [f"{name} {year}, {unit}" for name in COLORS for year in YEARS for unit in ("kWh", "m³")]
        places = {name: place for place, name in enumerate([f"{rows}\\{columns}", *years])}
        arranged = {"indexByName": places, "excludeByName": {}, "renameByName": {}}
        panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=arranged))
    order = {"fields": {}, "sort": [{"field": f"{rows}\\{columns}"}]}
    return panel.with_transformation(model.DataTransformerConfig(id_val="sortBy", options=order))


def table_panel(
    title: str,
    description: str,
    columns: Sequence[Column],
    style: Style,
    labels: Mapping[str, str],
    sort: str = "",
    widths: Mapping[str, int] | None = None,
) -> table.Panel:
    """Return a table: a row for each set of `labels` (label -> its heading), a column for each query; sorted by a heading."""
    first, *others = columns
    # A row that says why, where the first column has none: an empty table is a heading without a word.
    queries = [Query(never_empty(first.expr, **{next(iter(labels)): style.nothing})), *(Query(column.expr) for column in others)]
    panel = table.Panel().show_header(True).cell_height(kinds.TableCellHeight.SM)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    # A text column would be formatted as a quantity, "541 Quadr": only columns of queries get a unit.
    _finish(panel, title, description, queries, style, instant=True, tabular=True).unit("string")
    # A single query has its column called Value, several have the query's letter behind it.
    names = [f"Value #{_letter(place)}" if len(columns) > 1 else "Value" for place in range(len(columns))]
    hidden = {name: True for name, column in zip(names, columns, strict=True) if column.hidden}
    shown = {name: column.title for name, column in zip(names, columns, strict=True) if not column.hidden}
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    order = {name: place for place, name in enumerate([*labels, *shown])}
    dropped = {name: True for name in ("Time", *LABELS) if name not in labels}
    arranged = {"excludeByName": dropped | hidden, "renameByName": dict(labels) | shown, "indexByName": order}
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=arranged))
    for column in columns:
        if not column.hidden:
            panel.override_by_name(column.title, _column_style(column))
    for heading in labels.values():
        width = (widths or {}).get(heading) or WIDTHS.get(heading, 110)
        settings = WHOLE_HEADING | {"custom.width": width, "noValue": "–"}
        panel.override_by_name(heading, [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()])
    return panel


def colored(panel: P, pattern: str, color: str) -> P:
    """Fix the colour of the series whose name matches."""
    value = {"mode": "fixed", "fixedColor": color}
    return panel.override_by_regexp(_regexp(pattern), [model.DynamicConfigValue(id_val="color", value=value)])


def dashed(panel: P, pattern: str) -> P:
    """Draw the series whose name matches as a dashed line: a limit, or another year."""
    settings: dict[str, Any] = {"custom.drawStyle": "line", "custom.lineStyle": {"fill": "dash", "dash": [8, 6]}}
    settings |= {"custom.showPoints": "never", "custom.fillOpacity": 0, "custom.lineWidth": 2}
    settings |= {"custom.stacking": {"mode": "none", "group": "B"}}
    values = [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()]
    return panel.override_by_regexp(_regexp(pattern), values)


def repeated(panel: P, variable: str, columns: int) -> P:
    """Repeat a panel for every value of a variable, so many side by side."""
    return panel.repeat(variable).repeat_direction("h").max_per_row(columns).span(24)


def in_commodity_colors(panel: P) -> P:
    """Colour series by the commodity their name begins with; the year before, and incomplete days, paler."""
    for name, color in COLORS.items():
        colored(panel, f"{name}.*", color)
        colored(panel, f"{name}(,? last year.*|, not complete.*)", PALE[name])
    return panel


def with_units(panel: P) -> P:
    """Set the unit of series that their name ends with, and dash what is of the year before or expected."""
    for words, unit in (("kWh", KWH), ("m³", M3)):
        panel.override_by_regexp(_regexp(f".*, {words}"), [model.DynamicConfigValue(id_val="unit", value=unit)])
    if isinstance(panel, trend.Panel):
        settings = [model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]})]
        panel.override_by_regexp(_regexp(".* (last year|expected).*"), settings)
    return panel


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Return thresholds; the first step has no value."""
    levels = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(levels)


def mapping(words: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """Return words for values."""
    options = {
        value: model.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(words.items())
    }
    return model.ValueMap(options=options)


def _regexp(pattern: str) -> str:
    return f"/^({pattern})$/i"


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).placement(kinds.LegendPlacement.BOTTOM)
    return legend.show_legend(True).calcs([])


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)


def _graph() -> timeseries.Panel:
    return timeseries.Panel().legend(_legend()).tooltip(_tooltip())


def _finish(
    panel: P,
    title: str,
    description: str,
    queries: Sequence[Query],
    style: Style,
    *,
    instant: bool = False,
    tabular: bool = False,
) -> P:
    panel.title(title).description(description).datasource(SOURCE).span(style.width).height(style.height)
    panel.unit(style.unit).no_value(style.nothing).thresholds(thresholds(style.thresholds))
    if style.decimals is not None:
        panel.decimals(style.decimals)
    if style.words:
        panel.mappings([mapping(style.words)])
    if isinstance(panel, timeseries.Panel) and style.reach is not None:
        panel.axis_soft_max(style.reach)
    by_value = isinstance(panel, stat.Panel | gauge.Panel | bargauge.Panel | table.Panel)
    color = model.FieldColorModeId.THRESHOLDS if by_value else model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
    panel.color_scheme(dashboard.FieldColor().mode(color))
    for place, query in enumerate(queries):
        panel.with_target(_target(query, _letter(place), instant=instant, tabular=tabular))
        if settings := _query_style(query):
            panel.override_by_query(_letter(place), settings)
    return panel


def _target(query: Query, letter: str, *, instant: bool, tabular: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(re.sub(r"\s+", " ", query.expr)).ref_id(letter).datasource(SOURCE)
    target.editor_mode(prometheus_kinds.QueryEditorMode.CODE).legend_format(query.legend or "__auto")
    target.format(prometheus_kinds.PromQueryFormat.TABLE if tabular else prometheus_kinds.PromQueryFormat.TIME_SERIES)
    if query.step:
        target.interval(query.step)
    return target.instant() if instant else target.range()


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _query_style(query: Query) -> list[model.DynamicConfigValue]:
    settings: dict[str, Any] = {}
    if query.unit:
        settings["unit"] = query.unit
    if query.decimals is not None:
        settings["decimals"] = query.decimals
    if query.words:
        settings["mappings"] = [mapping(query.words).to_json()]
    if query.thresholds:
        settings["thresholds"] = thresholds(query.thresholds).build().to_json()
    if query.nothing:
        settings["noValue"] = query.nothing
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()]


def _min_width(column: Column) -> int:
    """Return the pixels in which no word of the heading is cut: it can only be parted between words."""
    return max(column.width, 7 * max(map(len, column.title.split())) + 20)


def _column_style(column: Column) -> list[model.DynamicConfigValue]:
    settings: dict[str, Any] = WHOLE_HEADING | {"unit": column.unit, "noValue": "–", "custom.minWidth": _min_width(column)}
    if column.decimals is not None:
        settings["decimals"] = column.decimals
    blank = model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(
            match=model.SpecialValueMatch.NA_N, result=model.ValueMappingResult(text="–", color="text", index=99)
        )
    )
    settings["mappings"] = [*([mapping(column.words).to_json()] if column.words else ()), blank.to_json()]
    if column.thresholds:
        settings["thresholds"] = thresholds(column.thresholds).build().to_json()
    if column.words or column.thresholds:
        settings["custom.cellOptions"] = {"type": "color-text"}
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()]
