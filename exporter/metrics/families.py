"""Every metric family: its name, its labels and its help."""

from dataclasses import dataclass
from enum import StrEnum

LabelValues = tuple[str, ...]
Samples = dict[str, dict[LabelValues, float]]
"""Family name -> label values (in the family's order) -> value."""
Sample = tuple[str, LabelValues, float]
"""Family name, label values, value."""


ACCOUNT_LABELS = ("account",)
PORTAL_LABELS = ("account", "portal")
USAGE_POINT_LABELS = ("account", "usage_point")
TARGET_LABELS = ("target",)
REGISTER_LABELS = ("account", "usage_point", "register")


class MetricType(StrEnum):
    """The type a family has on the page."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """A metric family by its full name (with `_total` or `_info`)."""

    name: str
    labels: tuple[str, ...]
    help: str
    type: MetricType = MetricType.GAUGE


CACHED_HELP = "cached since the account's last visit"
_INDEX_FAMILIES = (
    MetricFamily(
        "utility_consumption_index_kwh", REGISTER_LABELS, f"What the register showed at its last reading, in kWh; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_consumption_index_m3", REGISTER_LABELS, f"What the register showed at its last reading, in m³; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_injection_index_kwh",
        REGISTER_LABELS,
        f"What the injection register showed at its last reading, in kWh; {CACHED_HELP}.",
    ),
)
_LATEST_DAY = "on the latest complete local day known"
_MONTH_TO_DATE = "in the month of the latest complete day, up to and with that day"
_YEAR_TO_DATE = "in the year of the latest complete day, up to and with that day"
_PREVIOUS_MONTH = "in the whole month before; only when every day of it is known"
_PREVIOUS_YEAR = "in the whole year before; only when every day of it is known"
_AMOUNT_FAMILIES = (
    MetricFamily(
        "utility_daily_consumption_kwh", REGISTER_LABELS, f"Energy consumed from the grid in kWh {_LATEST_DAY}; {CACHED_HELP}."
    ),
    MetricFamily("utility_daily_consumption_m3", REGISTER_LABELS, f"Volume consumed in m³ {_LATEST_DAY}; {CACHED_HELP}."),
    MetricFamily(
        "utility_daily_injection_kwh", REGISTER_LABELS, f"Energy injected into the grid in kWh {_LATEST_DAY}; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_monthly_consumption_kwh",
        REGISTER_LABELS,
        f"Energy consumed from the grid in kWh {_MONTH_TO_DATE}; {CACHED_HELP}.",
    ),
    MetricFamily("utility_monthly_consumption_m3", REGISTER_LABELS, f"Volume consumed in m³ {_MONTH_TO_DATE}; {CACHED_HELP}."),
    MetricFamily(
        "utility_monthly_injection_kwh", REGISTER_LABELS, f"Energy injected into the grid in kWh {_MONTH_TO_DATE}; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_yearly_consumption_kwh",
        REGISTER_LABELS,
        f"Energy consumed from the grid in kWh {_YEAR_TO_DATE}; {CACHED_HELP}.",
    ),
    MetricFamily("utility_yearly_consumption_m3", REGISTER_LABELS, f"Volume consumed in m³ {_YEAR_TO_DATE}; {CACHED_HELP}."),
    MetricFamily(
        "utility_yearly_injection_kwh", REGISTER_LABELS, f"Energy injected into the grid in kWh {_YEAR_TO_DATE}; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_previous_month_consumption_kwh",
        REGISTER_LABELS,
        f"Energy consumed from the grid in kWh {_PREVIOUS_MONTH}; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_previous_month_consumption_m3", REGISTER_LABELS, f"Volume consumed in m³ {_PREVIOUS_MONTH}; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_previous_month_injection_kwh",
        REGISTER_LABELS,
        f"Energy injected into the grid in kWh {_PREVIOUS_MONTH}; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_previous_year_consumption_kwh",
        REGISTER_LABELS,
        f"Energy consumed from the grid in kWh {_PREVIOUS_YEAR}; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_previous_year_consumption_m3", REGISTER_LABELS, f"Volume consumed in m³ {_PREVIOUS_YEAR}; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_previous_year_injection_kwh",
        REGISTER_LABELS,
        f"Energy injected into the grid in kWh {_PREVIOUS_YEAR}; {CACHED_HELP}.",
    ),
)
_DAY_FAMILIES = (
    MetricFamily(
        "utility_latest_day_timestamp_seconds",
        USAGE_POINT_LABELS,
        f"Start of the latest complete local day known; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_monthly_day_gaps",
        USAGE_POINT_LABELS,
        f"Days of that day's month, from its first or the established start of the history on, without an amount; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_yearly_day_gaps",
        USAGE_POINT_LABELS,
        f"Days of that day's year, from its first or the established start of the history on, without an amount; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_month_start_timestamp_seconds",
        USAGE_POINT_LABELS,
        f"Start of the running local month; the usage points are {CACHED_HELP}.",
    ),
    MetricFamily("utility_history_start_timestamp_seconds", USAGE_POINT_LABELS, f"Start of the oldest day known; {CACHED_HELP}."),
    MetricFamily(
        "utility_history_missing_days",
        USAGE_POINT_LABELS,
        f"Days without an amount between the oldest and the latest known day; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_day_gaps", USAGE_POINT_LABELS, f"Days without an amount among the 60 up to the latest known day; {CACHED_HELP}."
    ),
)
_POWER_FAMILIES = (
    MetricFamily(
        "utility_consumption_load_kw",
        REGISTER_LABELS,
        f"Mean power of consumption in the newest interval shorter than a day; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_injection_load_kw",
        REGISTER_LABELS,
        f"Mean power of injection in the newest interval shorter than a day; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_load_timestamp_seconds", USAGE_POINT_LABELS, f"End of the interval that the load is the mean of; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_monthly_peak_kw",
        USAGE_POINT_LABELS,
        f"Highest quarter-hour power of the newest month the portal states; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_monthly_peak_timestamp_seconds",
        USAGE_POINT_LABELS,
        f"Start of the quarter-hour of the monthly peak; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_average_monthly_peak_kw",
        USAGE_POINT_LABELS,
        f"Mean of max(2.5 kW, peak) over the 12 months before the running one, base of the capacity tariff; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_average_monthly_peak_months",
        USAGE_POINT_LABELS,
        f"How many of the 12 months of the average monthly peak are known; {CACHED_HELP}.",
    ),
    MetricFamily(
        "utility_daily_peak_kva", USAGE_POINT_LABELS, f"Highest power of the newest day the portal states, in kVA; {CACHED_HELP}."
    ),
    MetricFamily("utility_daily_peak_timestamp_seconds", USAGE_POINT_LABELS, f"Instant of the daily peak; {CACHED_HELP}."),
    MetricFamily("utility_subscribed_power_kva", USAGE_POINT_LABELS, f"Contract power in kVA; {CACHED_HELP}."),
)
_MOMENTARY_FAMILIES = (
    MetricFamily("utility_temperature_celsius", REGISTER_LABELS, f"Temperature at its last reading; {CACHED_HELP}."),
    MetricFamily("utility_humidity_ratio", REGISTER_LABELS, f"Relative humidity at its last reading, 0 to 1; {CACHED_HELP}."),
    MetricFamily("utility_power_kw", REGISTER_LABELS, f"Power at its last reading; {CACHED_HELP}."),
    MetricFamily(
        "utility_register_value",
        (*REGISTER_LABELS, "unit"),
        f"Any other counter in its own unit at its last reading; {CACHED_HELP}.",
    ),
)
_AGE_FAMILIES = (
    MetricFamily(
        "utility_reading_timestamp_seconds", USAGE_POINT_LABELS, f"The instant that the newest value describes; {CACHED_HELP}."
    ),
    MetricFamily(
        "utility_reading_age_seconds", USAGE_POINT_LABELS, "Now minus the instant that the newest cached value describes."
    ),
)
_FLAG_FAMILIES = (
    MetricFamily(
        "utility_divergent_consumption",
        USAGE_POINT_LABELS,
        f"1 when the portal calls the consumption unusual, as in a leak; {CACHED_HELP}.",
    ),
    MetricFamily("utility_meter_active", USAGE_POINT_LABELS, f"1 when the meter is in service; {CACHED_HELP}."),
    MetricFamily("utility_flow_limitation", USAGE_POINT_LABELS, f"1 when the flow is limited; {CACHED_HELP}."),
    MetricFamily("utility_up_to_date", USAGE_POINT_LABELS, f"1 when the portal calls its reading up to date; {CACHED_HELP}."),
    MetricFamily("utility_no_data_permission", USAGE_POINT_LABELS, f"1 when the portal withholds the data; {CACHED_HELP}."),
    MetricFamily(
        "utility_day_offset", USAGE_POINT_LABELS, f"Age of the reading in days by the portal's own count; {CACHED_HELP}."
    ),
)
_INFO_FAMILIES = (
    MetricFamily(
        "utility_usage_point_info",
        (*USAGE_POINT_LABELS, "portal", "commodity", "meter", "site", "name", "address", "place_id"),
        f"What a usage point is; {CACHED_HELP}.",
        MetricType.INFO,
    ),
    MetricFamily(
        "utility_register_info",
        (*REGISTER_LABELS, "commodity", "kind", "unit", "description", "part_of", "value_type", "type_id"),
        f"What a register is, and which other one of the usage point counts it too; {CACHED_HELP}.",
        MetricType.INFO,
    ),
    MetricFamily(
        "utility_account_info",
        (*PORTAL_LABELS, "name", "company", "company_id", "customer_id", "person_id"),
        f"Account holder, only with personal_data: true; {CACHED_HELP}.",
        MetricType.INFO,
    ),
)
_HEALTH_FAMILIES = (
    MetricFamily("utility_up", PORTAL_LABELS, "1 when the account's last visit succeeded."),
    MetricFamily("utility_visits_total", PORTAL_LABELS, "Visits to the portal.", MetricType.COUNTER),
    MetricFamily(
        "utility_visit_failures_total", (*PORTAL_LABELS, "reason"), "Visits that failed, by reason.", MetricType.COUNTER
    ),
    MetricFamily("utility_visit_duration_seconds", PORTAL_LABELS, "How long the last visit took."),
    MetricFamily("utility_visit_interval_seconds", PORTAL_LABELS, "The planned distance between visits."),
    MetricFamily("utility_last_visit_timestamp_seconds", PORTAL_LABELS, "When the portal was last asked."),
    MetricFamily("utility_last_success_timestamp_seconds", PORTAL_LABELS, "When a visit last succeeded."),
    MetricFamily("utility_last_new_data_timestamp_seconds", PORTAL_LABELS, "When a visit last brought something new."),
    MetricFamily("utility_next_visit_timestamp_seconds", PORTAL_LABELS, "When the portal is asked again."),
    MetricFamily(
        "utility_login_suspended", PORTAL_LABELS, "1 while the account is not visited because the portal refused the login."
    ),
    MetricFamily("utility_access_expires_timestamp_seconds", PORTAL_LABELS, "When access ends that a person must renew; cached."),
    MetricFamily(
        "utility_login_valid_from_timestamp_seconds", PORTAL_LABELS, "Since when the login is valid, by the portal; cached."
    ),
    MetricFamily(
        "utility_token_expires_timestamp_seconds",
        PORTAL_LABELS,
        "When the present access token ends, which the exporter renews itself; cached.",
    ),
    MetricFamily(
        "utility_portal_requests_total", (*PORTAL_LABELS, "status"), "HTTP responses of the portal, by class.", MetricType.COUNTER
    ),
    MetricFamily(
        "utility_usage_point_configured",
        USAGE_POINT_LABELS,
        "1 for every usage point that the configuration names, with readings cached or without.",
    ),
    MetricFamily("utility_ledger_readings", ACCOUNT_LABELS, "Readings kept in the ledger."),
    MetricFamily(
        "utility_history_pending_requests",
        ACCOUNT_LABELS,
        "Requests still to be made before everything that the portal gives has been asked for once; 0 when done.",
    ),
    MetricFamily(
        "utility_skipped_values_total",
        ACCOUNT_LABELS,
        "Values or rows of responses left out because they could not be understood.",
        MetricType.COUNTER,
    ),
    MetricFamily(
        "utility_portal_shape_changes_total",
        ACCOUNT_LABELS,
        "Fields of the portal's responses that appeared, disappeared or changed their type.",
        MetricType.COUNTER,
    ),
    MetricFamily("utility_corrections_total", ACCOUNT_LABELS, "Values that the portal changed afterwards.", MetricType.COUNTER),
)
_EXPORTER_FAMILIES = (
    MetricFamily("utility_exporter_build_info", ("version", "python"), "Version of the exporter and of Python.", MetricType.INFO),
    MetricFamily("utility_exporter_config_last_reload_successful", (), "1 when the last configuration reload succeeded."),
    MetricFamily(
        "utility_exporter_config_last_reload_success_timestamp_seconds", (), "When a configuration reload last succeeded."
    ),
)
_REMOTE_WRITE_FAMILIES = (
    MetricFamily("utility_exporter_remote_write_up", TARGET_LABELS, "1 when the receiver accepted the last request."),
    MetricFamily(
        "utility_exporter_remote_write_pending_samples",
        TARGET_LABELS,
        "Samples that have settled and that the receiver does not have yet.",
    ),
    MetricFamily(
        "utility_exporter_remote_write_sent_samples_total",
        TARGET_LABELS,
        "Samples that the receiver accepted.",
        MetricType.COUNTER,
    ),
    MetricFamily(
        "utility_exporter_remote_write_refused_samples_total",
        TARGET_LABELS,
        "Samples set aside because the receiver refused them.",
        MetricType.COUNTER,
    ),
    MetricFamily(
        "utility_exporter_remote_write_corrections_total",
        TARGET_LABELS,
        "Samples corrected after they were delivered, sent again or not.",
        MetricType.COUNTER,
    ),
    MetricFamily(
        "utility_exporter_remote_write_lag_seconds",
        TARGET_LABELS,
        "Time since the oldest unfinished delivery began, 0 when nothing is pending.",
    ),
    MetricFamily(
        "utility_exporter_remote_write_last_success_timestamp_seconds", TARGET_LABELS, "When the receiver last accepted samples."
    ),
)
FAMILY_GROUPS = {
    "index": _INDEX_FAMILIES,
    "amounts": _AMOUNT_FAMILIES,
    "days": _DAY_FAMILIES,
    "powers": _POWER_FAMILIES,
    "momentary": _MOMENTARY_FAMILIES,
    "age": _AGE_FAMILIES,
    "flags": _FLAG_FAMILIES,
    "infos": _INFO_FAMILIES,
    "health": _HEALTH_FAMILIES,
    "process": _EXPORTER_FAMILIES,
    "delivery": _REMOTE_WRITE_FAMILIES,
}
"""Related families."""
AGE_FAMILY, TIMESTAMP_FAMILY = "utility_reading_age_seconds", "utility_reading_timestamp_seconds"
MONTH_START_FAMILY = "utility_month_start_timestamp_seconds"
PERIOD_FAMILIES = frozenset(family.name for group in ("amounts", "days", "powers") for family in FAMILY_GROUPS[group])
"""Families of days, intervals and peaks: a new index alone does not change them. They change once a day or so."""
TAIL_FAMILIES = (
    "utility_account_info",
    *(family.name for family in (*_HEALTH_FAMILIES, *_EXPORTER_FAMILIES, *_REMOTE_WRITE_FAMILIES)),
)
"""Families that change with every visit or request, in the order of the page; they are rendered at each scrape."""
FAMILIES = tuple(
    sorted(
        (family for group in FAMILY_GROUPS.values() for family in group),
        key=lambda family: (family.name in TAIL_FAMILIES, family.name == AGE_FAMILY),
    )
)
"""All families in the order of the page: those of readings, which are kept as text, the ages, and the tail."""
FAMILIES_BY_NAME = {family.name: family for family in FAMILIES}
FAILURE_REASONS = ("unreachable", "rate_limit", "login", "response", "bug", "ledger")
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx", "error")
