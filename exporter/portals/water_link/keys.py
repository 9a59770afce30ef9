"""What may stand in a Water-Link account of the configuration."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

SITE = "https://portaaldigitalemeters.water-link.be"
IDENTITY = "https://a5xhcq3r8.accounts.ondemand.com"


def meter_number(number: object) -> object:
    """Check a meter's number; without quotes, YAML reads its six digits as an integer. Raises ValueError."""
    text = str(number) if type(number) is int else number
    if not isinstance(text, str) or not re.fullmatch("[0-9]{6}", text):
        raise ValueError("a meter's number is six digits")
    return text


def _each_once(meters: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(meters)) < len(meters):
        raise ValueError("a meter is named twice")
    return meters


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("is not an address like https://host")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
"""A host with its scheme, perhaps with the start of a path; a final slash is dropped."""
MeterNumber = Annotated[str, Field(pattern="^[0-9]{6}$"), BeforeValidator(meter_number)]
Meters = Annotated[tuple[MeterNumber, ...], Field(min_length=1), AfterValidator(_each_once)]
