"""What every dashboard has: its variables, its links to the others, and rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import SOURCE, Panel
from grafana.queries import ACCOUNT, POINT

TAG = "utility-exporter"
COMMODITIES = ("Electricity", "Gas", "Water", "Heat", "Cold")
"""The label `commodity` as people write it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; `repeat` names the variable of which every value has the row once."""

    title: str
    panels: Sequence[Panel]
    repeat: str = ""


def choice(name: str, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """Return a variable of which several values, or all there are, can be chosen."""
    variable = dashboard.QueryVariable(name).label(label).description(description).datasource(SOURCE).query(query)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    variable.multi(True).include_all(True)
    return variable.current(model.VariableOption(text="All", value="$__all", selected=True))


def hidden(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    """Hide a variable that nobody needs to choose."""
    return variable.hide(model.VariableHide.HIDE_VARIABLE)


DATASOURCE = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus").multi(False).include_all(False)
JOB = hidden(choice("job", "Job", "label_values(utility_exporter_build_info, job)", "Scrape jobs of the exporter."))
INSTANCE = hidden(
    choice(
        "instance",
        "Instance",
        "label_values(utility_exporter_build_info, instance)",
        "Running exporters. Panels show what the chosen ones say now; Account lists the logins of all, whatever Job and "
        "Instance are.",
    )
)


def account(*matchers: str) -> dashboard.QueryVariable:
    """Choose among the accounts, or those whose usage points match."""
    selected = f"utility_usage_point_info{{{','.join(matchers)}}}" if matchers else "utility_account_info"
    # Not by job and instance, which are seldom chosen: Grafana asks for one variable after the other where they depend, and
    # no panel is drawn before the last.
    return choice("account", "Account", f"label_values({selected}, account)", "Logins.")


def usage_point(*matchers: str) -> dashboard.QueryVariable:
    """Choose among the usage points of the accounts, or those that match."""
    selected = f"utility_usage_point_info{{{','.join((ACCOUNT, *matchers))}}}"
    return choice("usage_point", "Usage point", f"label_values({selected}, usage_point)", "Meters, by alias or number.")


def commodity() -> dashboard.QueryVariable:
    """Return the commodities of the chosen usage points, hidden: panels repeat by them, so what is not there is not shown."""
    kinds = "|".join(name.lower() for name in COMMODITIES)
    facts = f'max by (commodity) (utility_usage_point_info{{{POINT},commodity=~"{kinds}"}})'
    for name in COMMODITIES:
        facts = f'label_replace({facts}, "shown", "{name}", "commodity", "{name.lower()}")'
    variable = choice("commodity", "Commodity", f"query_result({facts})", "What there is of electricity, gas, water and heat.")
    return hidden(variable).regex('/commodity="(?<value>[^"]+)".*shown="(?<text>[^"]+)"/')


def build_dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[dashboard.QueryVariable],
    rows: Sequence[Row],
    since: str = "now-30d",
) -> model.Dashboard:
    """Put a dashboard together."""
    builder = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    builder.time(since, "now").timezone("browser").refresh("5m").tooltip(model.DashboardCursorSync.CROSSHAIR)
    links = dashboard.DashboardLink("Boards").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    builder.link(links.keep_time(True).include_vars(True).target_blank(False).icon("external link").tooltip(""))
    for variable in (DATASOURCE, JOB, INSTANCE, *variables):
        builder.with_variable(variable)
    for number, row in enumerate(rows):
        if number:  # the first row has no heading: it is the first screen
            heading = dashboard.Row(row.title)
            builder.with_row(heading.repeat(row.repeat) if row.repeat else heading)
        for panel in row.panels:
            builder.with_panel(panel)
    finished = builder.build()
    for link in finished.links or []:
        # Grafana hides a link of type dashboards that is placed in the controls' menu, which is the model's default.
        link.placement = None  # type: ignore[assignment]  # absent in the file
    for place, placed in enumerate(finished.panels or [], 1):
        placed.id_val = place
    return finished
