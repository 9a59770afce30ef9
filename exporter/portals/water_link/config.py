"""The configuration keys of an account at Water-Link, and the addresses of the portal."""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from exporter.duration import Duration
from exporter.portals.base import AccountConfig, BaseUrl

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


class WaterLinkConfig(AccountConfig):
    """The configuration of an account at "Mijn Water-Link"."""

    min_every: ClassVar[timedelta] = timedelta(minutes=15)
    login_keys: ClassVar = ("username", "password", "portal_url", "identity_url", "client_id", "redirect_uri")

    portal: Literal["water-link"] = "water-link"
    username: Annotated[str, Field(min_length=1, description="The e-mail address of the portal's account.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    meters: Annotated[
        MeterNumbers, Field(description="Their numbers: six digits, from the portal's address /water-meter/XXXXXX.")
    ]
    every: Annotated[Duration, Field(description="Distance between visits; new values come once a day.")] = timedelta(hours=2)
    history_days: Annotated[int, Field(ge=1, le=3660, description="How far back the history goes.")] = 365
    portal_url: Annotated[BaseUrl, Field(description="Address of the portal and its API.")] = PORTAL_URL
    identity_url: Annotated[BaseUrl, Field(description="Address of the identity provider.")] = IDENTITY_URL
    client_id: Annotated[str, Field(min_length=1, description="The portal's OAuth 2 client.")] = (
        "07967700-64cf-4f26-825c-b13042574400"
    )
    redirect_uri: Annotated[str, Field(min_length=1, description="The redirect URI of that client.")] = PORTAL_URL
    scope: Annotated[str, Field(min_length=1, description="The scope that client requests.")] = "openid"

    def configured_usage_points(self) -> frozenset[str]:
        """Return the numbers of all meters."""
        return frozenset(self.meters)
