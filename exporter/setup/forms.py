"""What each portal asks of a new account, in words for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from exporter.models import Commodity
from exporter.portals.cem.config import CemConfig
from exporter.portals.enedis.auth import is_complete_token
from exporter.portals.enedis.config import UsagePointConfig
from exporter.portals.fluvius.config import MeterConfig
from exporter.portals.water_link.config import check_meter_number

Check = Callable[[str], str]
"""Return what is wrong with an answer, or an empty text."""


def accept(_: str) -> str:
    """Find nothing wrong."""
    return ""


@dataclass(frozen=True, slots=True)
class MeterField:
    """One thing that is asked of a meter."""

    key: str
    question: str
    check: Check = accept
    choices: tuple[str, ...] = ()
    has_several: bool = False
    """Whether the answer may be a list, with blanks or commas between."""


@dataclass(frozen=True, slots=True)
class PortalForm:
    """The questions for one portal, or one access to it."""

    title: str
    intro: str
    account: str
    """The name suggested for the account."""
    asks_address: bool = False
    """Whether customers have hosts of their own."""
    user_key: str = ""
    """The key of the user name; empty where there is none."""
    user: str = "E-mail address you sign in with"
    secret_key: str = "password"  # noqa: S105  # the key's name
    secret: str = "Password you sign in with"  # noqa: S105  # a question
    check_secret: Check = accept
    selection_key: str = "meters"
    """The key that says what is read."""
    fields: tuple[MeterField, ...] = ()
    """What is asked of each meter, where the portal does not list them; the first is its number."""
    has_plain_meters: bool = False
    """Whether a meter is written as its number alone."""
    asks_production: bool = False
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys that every account of this form has."""
    wait: str = "Logging in once ..."
    """What is said while the portal is asked."""

    def parse_meter(self, word: str) -> Any:
        """Return a meter of NUMBER, or of its parts with colons between; what is missing is left out, and found by the check."""
        if self.has_plain_meters or not self.fields:
            return word
        parts = zip(self.fields, word.split(":"), strict=False)
        return {one.key: text.split(",") if one.has_several and "," in text else text for one, text in parts}

    def format_meter(self, meter: Any) -> str:
        """Return a meter of the configuration as `parse_meter` reads it."""
        if not isinstance(meter, Mapping):
            return str(meter)
        values = [meter.get(one.key, "") for one in self.fields]
        return ":".join(",".join(map(str, value)) if isinstance(value, list) else str(value) for value in values).rstrip(":")

    def find_number(self, meter: Any) -> str:
        """Return the number of a meter of the configuration."""
        return str(meter.get(self.fields[0].key, "")) if isinstance(meter, Mapping) else str(meter)


def check_by(annotated: Any) -> Check:
    """Return the check that a type of the configuration makes."""
    adapter = TypeAdapter[Any](annotated)

    def check(text: str) -> str:
        try:
            adapter.validate_python(text)
        except ValidationError as error:
            return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        return ""

    return check


def check_by_field(info: FieldInfo) -> Check:
    """Return the check of a key of the configuration."""
    return check_by(Annotated[info.annotation, *info.metadata])


def check_water_meter(text: str) -> str:
    """Return what is wrong with the number of a water meter."""
    try:
        check_meter_number(text)
    except ValueError as error:
        return str(error)
    return ""


def check_conso_token(text: str) -> str:
    """Return what is wrong with a token of the Conso API."""
    return "" if is_complete_token(SecretStr(text)) else "this is no complete Conso API token; copy it again"


USUAL_CEM_ADDRESS: str = CemConfig.model_fields["base_url"].default
check_cem_address = check_by_field(CemConfig.model_fields["base_url"])


def require_text(text: str) -> str:
    """Refuse an empty answer."""
    return "" if text.strip() else "an answer is needed"


def build_cem_selection(counters: Sequence[str]) -> dict[str, Any]:
    """Return the counters to include; all where none is named."""
    return (
        {"counters": {"include": [int(counter) if counter.isdecimal() else counter for counter in counters]}} if counters else {}
    )


_PRM = MeterField(
    "prm",
    "Usage points (PRM: 14 digits, on the bill; blanks between several)",
    check_by_field(UsagePointConfig.model_fields["prm"]),
)


def _build_enedis_form(access: str, **parts: Any) -> PortalForm:
    """Return the form of an access to Enedis: what all of them have, and its own `parts`."""
    return PortalForm(
        account="maison",
        selection_key="usage_points",
        asks_production=True,
        keys={"access": access},
        wait="Asking Enedis what there is; one call a second, so it takes up to half a minute ...",
        **parts,
    )


_CONSO = _build_enedis_form(
    "conso",
    title="Enedis: Linky in France",
    intro="Needs a token: https://conso.boris.sh leads to the consent page of https://mon-compte-particulier.enedis.fr\n"
    "and back to it, where the token is shown: copy all of it, a long text with two dots in it. If a page stays empty on the\n"
    "way, switch your ad blocker off for it.",
    secret_key="token",  # noqa: S106  # the key's name
    secret="Token from conso.boris.sh",  # noqa: S106  # a question
    check_secret=check_conso_token,
)
FORMS: Mapping[str, PortalForm] = {
    "water-link": PortalForm(
        title="Water-Link: digital water meters in and around Antwerp",
        intro="Needs the e-mail address and password of https://portaaldigitalemeters.water-link.be, and each meter's number:\n"
        "open the meter there; its number is the six digits at the end of the address, .../water-meter/123456.",
        account="home-water",
        user_key="username",
        fields=(MeterField("number", "Meter numbers (six digits each; blanks between several)", check_water_meter),),
        has_plain_meters=True,
    ),
    "fluvius": PortalForm(
        title="Fluvius: electricity and gas in Flanders",
        intro="Needs a personal account at https://mijn.fluvius.be without a second factor, and each meter's EAN and serial:\n"
        "both stand on the meter's page there. Switch quarter-hours on there too, if you want them.",
        account="home-power",
        user_key="username",
        fields=(
            MeterField("ean", "EAN (18 digits, on the meter's page)", check_by_field(MeterConfig.model_fields["ean"])),
            MeterField(
                "serial",
                "Serial number (on the meter's page; of a replaced meter all, oldest first, blanks between)",
                check_by_field(MeterConfig.model_fields["serial"]),
                has_several=True,
            ),
            MeterField("commodity", "What it measures", choices=(Commodity.ELECTRICITY.value, Commodity.GAS.value)),
        ),
        wait="Logging in once, and looking since when there are days and quarter-hours ...",
    ),
    "enedis": _CONSO,
    "cem": PortalForm(
        title="CEM: the counters of a building in Czechia",
        intro="Needs the user name and password that the building's manager gave you; what the account holds is listed then.\n"
        "Where your CEM has a host of its own, the address is its page's with /cemapi/api: https://cem2.unimonitor.eu/cemapi/api.",
        account="block-of-flats",
        asks_address=True,
        user_key="username",
        user="User name you sign in with",
        selection_key="counters",
    ),
}
ENEDIS_ACCESSES: Mapping[str, PortalForm] = {
    "conso": _CONSO,
    "dataconnect": _build_enedis_form(
        "dataconnect",
        title="Data Connect: an application of your own",
        intro="Needs client_id and client_secret of an application in Enedis's DataHub that has subscribed to the measure APIs,\n"
        "and the PRM of each usage point, whose customer has consented at https://mon-compte-particulier.enedis.fr.",
        user_key="client_id",
        user="client_id of the application, from the DataHub",
        secret_key="client_secret",  # noqa: S106  # the key's name
        secret="client_secret of the application, from the DataHub",  # noqa: S106  # a question
        fields=(_PRM,),
    ),
    "myelectricaldata": _build_enedis_form(
        "myelectricaldata",
        title="MyElectricalData",
        intro="Needs the secret of your account at https://www.v2.myelectricaldata.fr, which asks for consent at Enedis,\n"
        "and the PRM of each usage point. If a page stays empty there, switch your ad blocker off for it.",
        secret_key="token",  # noqa: S106  # the key's name
        secret="Secret of your account at MyElectricalData",  # noqa: S106  # a question
        fields=(_PRM,),
    ),
}
"""The accesses to Enedis; `setup` asks which, the first by default."""
ACCESS_TITLES: Mapping[str, str] = {
    "conso": "Conso API: a token after your consent, for everybody",
    "dataconnect": "Data Connect: an application of your own, for companies",
    "myelectricaldata": "MyElectricalData: an account at www.v2.myelectricaldata.fr",
}
