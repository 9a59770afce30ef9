"""The one table of metric families: what each is called, its labels, and what it says."""

from dataclasses import dataclass
from enum import StrEnum

ACCOUNT = ("account",)
PORTAL = ("account", "portal")
POINT = ("account", "usage_point")
TARGET = ("target",)
REGISTER = ("account", "usage_point", "register")


class Kind(StrEnum):
    """The type a family has on the page."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family by its full name (with `_total` or `_info`)."""

    name: str
    labels: tuple[str, ...]
    help: str
    kind: Kind = Kind.GAUGE


CACHED = "cached since the account's last visit"
_QUANTITIES = {
    "consumption_kwh": "Energy delivered by the network in kWh",
    "consumption_m3": "Volume delivered in m³",
    "injection_kwh": "Energy fed into the network in kWh",
}
_PERIODS = {
    "daily": "on the latest complete local day known",
    "monthly": "in the month of the latest complete day, up to and with that day",
    "yearly": "in the year of the latest complete day, up to and with that day",
    "previous_month": "in the whole month before; only when every day of it is known",
    "previous_year": "in the whole year before; only when every day of it is known",
}


def amount(period: str, quantity: str) -> str:
    """Name the family of a period's amount: ("daily", "injection_kwh") is `utility_daily_injection_kwh`."""
    return f"utility_{period}_{quantity}"


_INDEXES = (
    Family("utility_consumption_index_kwh", REGISTER, f"What the register showed at its last reading, in kWh; {CACHED}."),
    Family("utility_consumption_index_m3", REGISTER, f"What the register showed at its last reading, in m³; {CACHED}."),
    Family("utility_injection_index_kwh", REGISTER, f"What the register of fed-in energy showed last, in kWh; {CACHED}."),
)
_AMOUNTS = tuple(
    Family(amount(period, quantity), REGISTER, f"{what} {when}; {CACHED}.")
    for period, when in _PERIODS.items()
    for quantity, what in _QUANTITIES.items()
)
_DAYS = (
    Family("utility_latest_day_timestamp_seconds", POINT, f"Start of the latest complete local day known; {CACHED}."),
    Family("utility_monthly_day_gaps", POINT, f"Days of that day's month, up to it, that have no amount; {CACHED}."),
    Family("utility_yearly_day_gaps", POINT, f"Days of that day's year, up to it, that have no amount; {CACHED}."),
    Family("utility_day_gaps", POINT, f"Days without an amount among the 60 up to the latest known day; {CACHED}."),
)
_POWERS = (
    Family("utility_consumption_load_kw", REGISTER, f"Mean power taken in the newest interval shorter than a day; {CACHED}."),
    Family("utility_injection_load_kw", REGISTER, f"Mean power fed in in the newest interval shorter than a day; {CACHED}."),
    Family("utility_load_timestamp_seconds", POINT, f"End of the interval that the load is the mean of; {CACHED}."),
    Family("utility_monthly_peak_kw", POINT, f"Highest quarter-hour power of the newest month the portal states; {CACHED}."),
    Family("utility_monthly_peak_timestamp_seconds", POINT, f"Start of the quarter-hour of the monthly peak; {CACHED}."),
    Family(
        "utility_average_monthly_peak_kw",
        POINT,
        f"Mean of max(2.5 kW, monthly peak) over the newest 12 closed months, the base of the capacity tariff; {CACHED}.",
    ),
    Family("utility_average_monthly_peak_months", POINT, f"How many closed months the average monthly peak has; {CACHED}."),
    Family("utility_daily_peak_kva", POINT, f"Highest power of the newest day the portal states, in kVA; {CACHED}."),
    Family("utility_daily_peak_timestamp_seconds", POINT, f"Instant of the daily peak; {CACHED}."),
    Family("utility_subscribed_power_kva", POINT, f"Contract power in kVA; {CACHED}."),
)
_MOMENTARY = (
    Family("utility_temperature_celsius", REGISTER, f"Temperature at its last reading; {CACHED}."),
    Family("utility_humidity_ratio", REGISTER, f"Relative humidity at its last reading, 0 to 1; {CACHED}."),
    Family("utility_power_kw", REGISTER, f"Power at its last reading; {CACHED}."),
    Family("utility_register_value", (*REGISTER, "unit"), f"Any other counter in its own unit at its last reading; {CACHED}."),
)
_AGE = (
    Family("utility_reading_timestamp_seconds", POINT, f"The instant that the newest value describes; {CACHED}."),
    Family("utility_reading_age_seconds", POINT, "Now minus the instant that the newest cached value describes."),
)
_FLAGS = (
    Family("utility_divergent_consumption", POINT, f"1 when the portal calls the consumption unusual, as in a leak; {CACHED}."),
    Family("utility_meter_active", POINT, f"1 when the meter is in service; {CACHED}."),
    Family("utility_flow_limitation", POINT, f"1 when the flow is limited; {CACHED}."),
    Family("utility_up_to_date", POINT, f"1 when the portal calls its reading up to date; {CACHED}."),
    Family("utility_no_data_permission", POINT, f"1 when the portal withholds the data; {CACHED}."),
    Family("utility_day_offset", POINT, f"Age of the reading in days by the portal's own count; {CACHED}."),
)
_INFOS = (
    Family(
        "utility_usage_point_info",
        (*POINT, "portal", "commodity", "meter", "site", "name", "address"),
        f"What a usage point is; {CACHED}.",
        Kind.INFO,
    ),
    Family(
        "utility_register_info",
        (*REGISTER, "commodity", "kind", "unit", "description"),
        f"What a register is; {CACHED}.",
        Kind.INFO,
    ),
    Family(
        "utility_account_info",
        (*PORTAL, "name", "company", "company_id", "customer_id", "person_id"),
        f"Who holds an account, where its configuration allows personal data; {CACHED}.",
        Kind.INFO,
    ),
)
_HEALTH = (
    Family("utility_up", PORTAL, "1 when the account's last visit succeeded."),
    Family("utility_visits_total", PORTAL, "Visits to the portal.", Kind.COUNTER),
    Family("utility_visit_failures_total", (*PORTAL, "reason"), "Visits that failed, by reason.", Kind.COUNTER),
    Family("utility_visit_duration_seconds", PORTAL, "How long the last visit took."),
    Family("utility_visit_interval_seconds", PORTAL, "The planned distance between visits."),
    Family("utility_last_visit_timestamp_seconds", PORTAL, "When the portal was last asked."),
    Family("utility_last_success_timestamp_seconds", PORTAL, "When a visit last succeeded."),
    Family("utility_last_new_data_timestamp_seconds", PORTAL, "When a visit last brought something new."),
    Family("utility_next_visit_timestamp_seconds", PORTAL, "When the portal is asked again."),
    Family("utility_login_suspended", PORTAL, "1 while the account is not visited because the portal refused the login."),
    Family("utility_access_expires_timestamp_seconds", PORTAL, "When access ends that a person must renew; cached."),
    Family("utility_portal_requests_total", (*PORTAL, "status"), "HTTP answers of the portal, by class.", Kind.COUNTER),
    Family("utility_ledger_readings", ACCOUNT, "Readings kept in the ledger."),
    Family("utility_corrections_total", ACCOUNT, "Values that the portal changed afterwards.", Kind.COUNTER),
)
_PROCESS = (
    Family("utility_exporter_build_info", ("version", "python"), "What runs here.", Kind.INFO),
    Family("utility_exporter_config_last_reload_successful", (), "1 when the configuration was last read without a fault."),
    Family("utility_exporter_config_last_reload_success_timestamp_seconds", (), "When the configuration was last read well."),
)
_DELIVERY = (
    Family("utility_exporter_remote_write_up", TARGET, "1 when the receiver answered the last request as it should."),
    Family(
        "utility_exporter_remote_write_pending_samples",
        TARGET,
        "Samples that have settled and that the receiver does not have yet.",
    ),
    Family("utility_exporter_remote_write_sent_samples_total", TARGET, "Samples that the receiver took.", Kind.COUNTER),
    Family(
        "utility_exporter_remote_write_refused_samples_total",
        TARGET,
        "Samples set aside because the receiver refused them.",
        Kind.COUNTER,
    ),
    Family(
        "utility_exporter_remote_write_corrections_total",
        TARGET,
        "Samples corrected after they were delivered, sent again or not.",
        Kind.COUNTER,
    ),
    Family(
        "utility_exporter_remote_write_lag_seconds",
        TARGET,
        "How long the oldest delivery under way has been waiting to be done, 0 when nothing is pending.",
    ),
    Family("utility_exporter_remote_write_last_success_timestamp_seconds", TARGET, "When the receiver last took samples."),
)
GROUPS = {
    "index": _INDEXES,
    "amounts": _AMOUNTS,
    "days": _DAYS,
    "powers": _POWERS,
    "momentary": _MOMENTARY,
    "age": _AGE,
    "flags": _FLAGS,
    "infos": _INFOS,
    "health": _HEALTH,
    "process": _PROCESS,
    "delivery": _DELIVERY,
}
"""What belongs together, in the order of the page."""
FAMILIES = tuple(family for group in GROUPS.values() for family in group)
BY_NAME = {family.name: family for family in FAMILIES}
AT_SCRAPE = frozenset(family.name for family in (*_HEALTH, *_PROCESS, *_DELIVERY)) | {
    "utility_reading_age_seconds",
    "utility_average_monthly_peak_kw",
    "utility_average_monthly_peak_months",
    "utility_account_info",
}
"""What moves with the clock, or with every request, and is written when somebody asks; all else is kept as text."""
REASONS = ("unreachable", "rate_limit", "login", "response", "bug", "ledger")
STATUSES = ("2xx", "3xx", "4xx", "5xx", "error")
