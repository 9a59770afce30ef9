"""What every dashboard has: its variables, its links to the others, and rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from grafana.parts import SOURCE, Panel
from grafana.promql import ACCOUNT, PROCESS

TAG = "utility-exporter"
EVERYTHING = ".+"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; `each` names the variable of which every value has the row once."""

    title: str
    panels: Sequence[Panel]
    each: str = ""


def chosen(name: str, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """Make a variable of which several values, or all, can be chosen."""
    made = dashboard.QueryVariable(name).label(label).description(description).datasource(SOURCE).query(query)
    made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    made.multi(True).include_all(True).all_value(EVERYTHING)
    return made.current(model.VariableOption(text="All", value="$__all", selected=True))


DATASOURCE = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus").multi(False).include_all(False)
JOB = chosen("job", "Job", "label_values(utility_exporter_build_info, job)", "Scrape jobs of the exporter.")
INSTANCE = chosen(
    "instance", "Instance", 'label_values(utility_exporter_build_info{job=~"$job"}, instance)', "Running exporters."
)


def account(*matchers: str) -> dashboard.QueryVariable:
    """Choose among the accounts, or those whose usage points match."""
    family = "utility_usage_point_info" if matchers else "utility_account_info"
    return chosen("account", "Account", f"label_values({family}{{{','.join((PROCESS, *matchers))}}}, account)", "Logins.")


def usage_point(*matchers: str) -> dashboard.QueryVariable:
    """Choose among the usage points of the accounts, or those that match."""
    selected = f"utility_usage_point_info{{{','.join((ACCOUNT, *matchers))}}}"
    return chosen("usage_point", "Usage point", f"label_values({selected}, usage_point)", "Meters, by number or alias.")


def board(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[dashboard.QueryVariable],
    rows: Sequence[Row],
    since: str = "now-30d",
) -> model.Dashboard:
    """Put a dashboard together."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    made.time(since, "now").timezone("browser").refresh("5m").tooltip(model.DashboardCursorSync.CROSSHAIR)
    links = dashboard.DashboardLink("Utilities").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    made.link(links.as_dropdown(True).keep_time(True).include_vars(False).target_blank(False).icon("external link").tooltip(""))
    for variable in (DATASOURCE, JOB, INSTANCE, *variables):
        made.with_variable(variable)
    for number, row in enumerate(rows):
        if number:  # the first row has no heading: health and age stand at the very top
            heading = dashboard.Row(row.title)
            made.with_row(heading.repeat(row.each) if row.each else heading)
        for panel in row.panels:
            made.with_panel(panel)
    finished = made.build()
    for place, placed in enumerate(finished.panels or [], 1):
        placed.id_val = place
    return finished
