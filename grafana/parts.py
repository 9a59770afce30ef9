"""Panels as the house likes them: a title, a description, a unit, and a word of their own where nothing is to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_kinds
from grafana_foundation_sdk.models import prometheus as prometheus_kinds

NEEDS_HISTORY = "Nothing here: needs remote read"
NEEDS_HOURLY = "Nothing here: needs remote read, and readings every hour"
NEEDS_RULES = "Nothing here: needs prometheus/rules.yaml"
NEEDS_BOTH = "Nothing here: needs remote read and prometheus/rules.yaml"
NOT_TOLD = "Not told"
HISTORY_SAYS = (
    " From the true-time series: Prometheus must read the exporter's history (`remote_read`), or have it by another road."
)
RULES_SAY = " From prometheus/rules.yaml, with the prices and limits of settings.yaml."
SOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")

Steps = Sequence[tuple[float | None, str]]
CALM: Steps = ((None, "green"),)
PLAIN: Steps = ((None, "text"),)
ANY_IS_BAD: Steps = ((None, "green"), (1, "red"))
ALL_IS_GOOD: Steps = ((None, "red"), (1, "green"))
AGE: Steps = ((None, "green"), (4 * 86400, "orange"), (7 * 86400, "red"))
COMING: Steps = ((None, "red"), (14 * 86400, "orange"), (30 * 86400, "green"))

Panel = bargauge.Panel | heatmap.Panel | stat.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", bargauge.Panel, heatmap.Panel, stat.Panel, table.Panel, timeseries.Panel)


@dataclass(frozen=True, slots=True)
class Ask:
    """One query: what, the name of its series, and the least distance of its points."""

    expr: str
    legend: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How a panel looks: size on a grid of 24, unit, thresholds, words for values and for nothing."""

    unit: str = "short"
    width: int = 4
    height: int = 4
    thresholds: Steps = PLAIN
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Value -> the word shown, and its colour."""
    nothing: str = NOT_TOLD
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its query (with all labels aggregated away that are no column) and how its values look."""

    title: str
    expr: str
    unit: str = "short"
    decimals: int | None = None
    thresholds: Steps = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hidden: bool = False
    """True for a query that is there for its labels."""


def number(title: str, description: str, asks: Sequence[Ask], look: Look, *, graph: bool = False) -> stat.Panel:
    """Make a panel that shows the newest value of each series in large letters."""
    panel = stat.Panel().color_mode(kinds.BigValueColorMode.VALUE)
    panel.graph_mode(kinds.BigValueGraphMode.AREA if graph else kinds.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.text_mode(kinds.BigValueTextMode.AUTO).justify_mode(kinds.BigValueJustifyMode.AUTO)
    panel.orientation(kinds.VizOrientation.AUTO)
    return _dressed(panel, title, description, asks, look, instant=not graph)


def bar_gauge(title: str, description: str, asks: Sequence[Ask], look: Look) -> bargauge.Panel:
    """Make a panel with a bar for the newest value of each series."""
    panel = bargauge.Panel().display_mode(kinds.BarGaugeDisplayMode.BASIC).orientation(kinds.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).value_mode(kinds.BarGaugeValueMode.TEXT)
    return _dressed(panel.min(0), title, description, asks, look, instant=True)


def lines(title: str, description: str, asks: Sequence[Ask], look: Look, *, fill: int = 0) -> timeseries.Panel:
    """Make a graph of lines."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.LINE).fill_opacity(fill).line_width(1)
    return _dressed(panel.show_points(kinds.VisibilityMode.NEVER).span_nulls(3 * 3_600_000), title, description, asks, look)


def stairs(title: str, description: str, asks: Sequence[Ask], look: Look) -> timeseries.Panel:
    """Make a graph of mean values, each of which holds until the next point."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.LINE).line_interpolation(kinds.LineInterpolation.STEP_AFTER)
    panel.fill_opacity(15).line_width(1).show_points(kinds.VisibilityMode.NEVER)
    return _dressed(panel, title, description, asks, look)


def bars(title: str, description: str, asks: Sequence[Ask], look: Look, *, stacked: bool = True) -> timeseries.Panel:
    """Make a graph of bars, each from its point to the next."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    panel.bar_alignment(kinds.BarAlignment.AFTER).bar_width_factor(0.8)
    mode = kinds.StackingMode.NORMAL if stacked else kinds.StackingMode.NONE
    panel.stacking(common.StackingConfig().mode(mode).group("A"))
    return _dressed(panel, title, description, asks, look)


def points(title: str, description: str, asks: Sequence[Ask], look: Look) -> timeseries.Panel:
    """Make a graph of single points, with the lines among them that are limits."""
    panel = _graph().draw_style(kinds.GraphDrawStyle.POINTS).point_size(6).show_points(kinds.VisibilityMode.ALWAYS)
    return _dressed(panel, title, description, asks, look)


def heat(title: str, description: str, ask: Ask, look: Look) -> heatmap.Panel:
    """Make a map of coloured cells: a row for each series, a column for each point of the graph."""
    color = heatmap.HeatmapColorOptions().mode(heat_kinds.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).exponent(0.5)
    color.scale(heat_kinds.HeatmapColorScale.EXPONENTIAL).fill("dark-orange").reverse(False)
    panel = heatmap.Panel().calculate(False).color(color).cell_gap(1).show_value(kinds.VisibilityMode.NEVER)
    panel.cell_values(heatmap.CellValues().unit(look.unit)).show_legend()
    panel.y_axis(heatmap.YAxisConfig().axis_placement(kinds.AxisPlacement.LEFT).reverse(True))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.AUTO))
    panel.tooltip(heatmap.HeatmapTooltip().mode(kinds.TooltipDisplayMode.SINGLE).show_color_scale(True))
    return _dressed(panel, title, description, [ask], look)


def rows(
    title: str, description: str, columns: Sequence[Column], look: Look, labels: Mapping[str, str], sort: str = ""
) -> table.Panel:
    """Make a table: a row for each set of `labels` (label -> its heading), a column for each query; sorted by a heading."""
    asks = [Ask(column.expr) for column in columns]
    panel = table.Panel().show_header(True).cell_height(kinds.TableCellHeight.SM)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    _dressed(panel, title, description, asks, look, instant=True, tabular=True)
    # A single query has its column called Value, several have the query's letter behind it.
    names = [f"Value #{_letter(place)}" if len(columns) > 1 else "Value" for place in range(len(columns))]
    hidden = {name: True for name, column in zip(names, columns, strict=True) if column.hidden}
    shown = {name: column.title for name, column in zip(names, columns, strict=True) if not column.hidden}
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    order = {name: place for place, name in enumerate([*labels, *shown])}
    arranged = {"excludeByName": {"Time": True} | hidden, "renameByName": dict(labels) | shown, "indexByName": order}
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=arranged))
    for column in columns:
        if not column.hidden:
            panel.override_by_name(column.title, _column_look(column))
    return panel


def colored(panel: timeseries.Panel, pattern: str, color: str) -> timeseries.Panel:
    """Give the series whose name matches a colour that stays."""
    value = {"mode": "fixed", "fixedColor": color}
    return panel.override_by_regexp(pattern, [model.DynamicConfigValue(id_val="color", value=value)])


def dashed(panel: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Draw the series whose name matches as a dashed line: a limit, or another year."""
    settings = {"custom.drawStyle": "line", "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.showPoints": "never"}
    values = [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()]
    return panel.override_by_regexp(pattern, values)


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Make thresholds; the first step has no value."""
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def mapping(words: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """Make words for values."""
    options = {
        value: model.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(words.items())
    }
    return model.ValueMap(options=options)


def _graph() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).placement(kinds.LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    return timeseries.Panel().legend(legend.show_legend(True).calcs([])).tooltip(tooltip)


def _dressed(
    panel: P,
    title: str,
    description: str,
    asks: Sequence[Ask],
    look: Look,
    *,
    instant: bool = False,
    tabular: bool = False,
) -> P:
    panel.title(title).description(description).datasource(SOURCE).span(look.width).height(look.height)
    panel.unit(look.unit).no_value(look.nothing).thresholds(thresholds(look.thresholds))
    if look.decimals is not None:
        panel.decimals(look.decimals)
    if look.words:
        panel.mappings([mapping(look.words)])
    color = model.FieldColorModeId.THRESHOLDS if instant else model.FieldColorModeId.PALETTE_CLASSIC
    panel.color_scheme(dashboard.FieldColor().mode(color))
    for place, ask in enumerate(asks):
        panel.with_target(_query(ask, _letter(place), instant=instant, tabular=tabular))
    return panel


def _query(ask: Ask, letter: str, *, instant: bool, tabular: bool) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(ask.expr).ref_id(letter).datasource(SOURCE)
    query.editor_mode(prometheus_kinds.QueryEditorMode.CODE).legend_format(ask.legend or "__auto")
    query.format(prometheus_kinds.PromQueryFormat.TABLE if tabular else prometheus_kinds.PromQueryFormat.TIME_SERIES)
    if ask.step:
        query.interval(ask.step)
    return query.instant() if instant else query.range()


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _column_look(column: Column) -> list[model.DynamicConfigValue]:
    settings: dict[str, Any] = {"unit": column.unit}
    if column.decimals is not None:
        settings["decimals"] = column.decimals
    if column.words:
        settings["mappings"] = [mapping(column.words).to_json()]
    if column.thresholds:
        settings["thresholds"] = thresholds(column.thresholds).build().to_json()
    if column.words or column.thresholds:
        settings["custom.cellOptions"] = {"type": "color-text"}
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in settings.items()]
