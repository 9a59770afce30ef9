"""The types of Water-Link's configuration keys, and the addresses of the portal."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

PORTAL_URL = "https://portaaldigitalemeters.water-link.be"
IDENTITY_URL = "https://a5xhcq3r8.accounts.ondemand.com"


def check_meter_number(number: object) -> object:
    """Return a meter's number as text; YAML reads six digits without quotes as an integer. Raise ValueError."""
    text = str(number) if type(number) is int else number
    if not isinstance(text, str) or not re.fullmatch("[0-9]{6}", text):
        raise ValueError("a meter's number is six digits")
    return text


def _check_unique(meters: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(meters)) < len(meters):
        raise ValueError("a meter is named twice")
    return meters


MeterNumber = Annotated[str, Field(pattern="^[0-9]{6}$"), BeforeValidator(check_meter_number)]
MeterNumbers = Annotated[tuple[MeterNumber, ...], Field(min_length=1), AfterValidator(_check_unique)]
