"""What each portal asks of a new account, in words for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PortalForm:
    """The questions for one portal."""

    title: str
    intro: str
    account: str
    """The name suggested for the account."""
    username: str = ""
    """The question for the user name; empty where there is none."""
    secret_key: str = "password"  # noqa: S105  # the key's name
    secret: str = "Password"  # noqa: S105  # a question
    meters: str = ""
    """The question for the meters, where the portal cannot list them; they are separated by blanks or commas."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys that every account of this form has."""
    build_selection: Callable[[Sequence[str]], dict[str, Any]] = lambda meters: {"meters": list(meters)}
    """Return the keys that select meters."""


def build_cem_selection(counters: Sequence[str]) -> dict[str, Any]:
    """Return the counters to include; all where none is named."""
    return (
        {"counters": {"include": [int(counter) if counter.isdecimal() else counter for counter in counters]}} if counters else {}
    )


def build_fluvius_selection(meters: Sequence[str]) -> dict[str, Any]:
    """Return the meters of EAN:SERIAL:COMMODITY; what is missing is left out, and reported by the configuration's check."""
    entries = [dict(zip(("ean", "serial", "commodity"), meter.split(":"), strict=False)) for meter in meters]
    return {"meters": entries}


def build_enedis_selection(prms: Sequence[str]) -> dict[str, Any]:
    """Return the usage points; all that the token names where none is named."""
    return {"usage_points": [{"prm": prm} for prm in prms]} if prms else {}


FORMS: Mapping[str, PortalForm] = {
    "water-link": PortalForm(
        title="Water-Link: digital water meters in and around Antwerp",
        intro="Needs the e-mail address and password of https://portaaldigitalemeters.water-link.be, and each meter's number:\n"
        "open the meter there; its number is the six digits at the end of the address, .../water-meter/123456.",
        account="home-water",
        username="E-mail address",
        meters="Meter numbers (six digits, several with blanks between)",
    ),
    "fluvius": PortalForm(
        title="Fluvius: electricity and gas in Flanders",
        intro="Needs a personal account at https://mijn.fluvius.be without a second factor, and each meter's EAN and serial:\n"
        "both stand on the meter's page there. Switch quarter-hours on there too, if you want them.",
        account="home-power",
        username="E-mail address",
        meters="Meters as EAN:SERIAL:electricity or EAN:SERIAL:gas (several with blanks between)",
        build_selection=build_fluvius_selection,
    ),
    "enedis": PortalForm(
        title="Enedis: Linky in France, by the Conso API",
        intro="Needs a token: give your consent at https://conso.boris.sh with your Enedis account, and copy the whole token.\n"
        "If the page stays empty after the consent, switch your ad blocker off for it.",
        account="maison",
        secret_key="token",  # noqa: S106  # the key's name
        secret="Token",  # noqa: S106  # a question
        keys={"access": "conso"},
        build_selection=build_enedis_selection,
    ),
    "cem": PortalForm(
        title="CEM: the counters of a building in Czechia",
        intro="Needs the user name and password of your access to CEM, as the house's manager gave them to you.\n"
        "What the account holds is listed next, to choose from.",
        account="block-of-flats",
        username="User name",
        build_selection=build_cem_selection,
    ),
}
