"""The configuration of a Fluvius account."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from exporter.client.quota import CallQuota
from exporter.duration import Duration
from exporter.models import Commodity, UsagePoint
from exporter.portals.base import AccountConfig, BaseUrl, ConfigBlock


def _check_ean(value: object) -> object:
    """Accept 18 digits, also as a number: an EAN begins with 5, so it has no leading zeros to lose."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and (digits := text.strip()).isascii() and digits.isdecimal() and len(digits) != 18:
        raise ValueError(f"an EAN has 18 digits; this has {len(digits)}")
    if not isinstance(text, str):
        raise ValueError('must be the 18 digits of an EAN; write it in quotes, like "541448820000000000"')  # noqa: TRY004  # pydantic's way
    if not re.fullmatch(r"[0-9]{18}", text.strip(), re.ASCII):
        raise ValueError("must be the 18 digits of an EAN, like 541448820000000000")
    return text.strip()


def _check_serial(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be written in quotes: as a number it would lose its leading zeros")  # noqa: TRY004  # pydantic's way
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z./-]{2,39}", value.strip(), re.ASCII):
        raise ValueError("must be a serial number as printed on the meter: letters and digits, no blanks inside")
    return value.strip()


def _check_serials(value: object) -> object:
    serials = [_check_serial(serial) for serial in (value if isinstance(value, list | tuple) else [value])]
    if len(set(serials)) != len(serials):
        raise ValueError("names the same serial number twice")
    return serials


QUOTA_NAME, QUOTA_PERIOD = "history", timedelta(hours=1)


class MeterConfig(ConfigBlock):
    """One usage point, and the meters mounted there one after the other."""

    example: ClassVar[str] = '{ean: "...", serial: ..., commodity: electricity}'

    ean: Annotated[str, BeforeValidator(_check_ean), Field(description="The usage point: 18 digits, in quotes.")]
    serial: Annotated[
        tuple[str, ...],
        BeforeValidator(_check_serials, json_schema_input_type=str | list[str]),
        Field(min_length=1, description="Serial number on the meter, in quotes; after a replacement a list, the oldest first."),
    ]
    commodity: Annotated[Literal[Commodity.ELECTRICITY, Commodity.GAS], Field(description="What it measures.")]
    intervals: Annotated[bool, Field(description="Read quarter-hours (gas: hours) too; switch them on in the portal first.")] = (
        False
    )

    @property
    def usage_point(self) -> UsagePoint:
        """The usage point, with the meter mounted there now."""
        return UsagePoint(self.ean, self.commodity, meter=self.serial[-1])


class GranularityCodes(ConfigBlock):
    """The portal's codes for the length of a record; they are undocumented and have changed before."""

    day: Annotated[int, Field(description="A day.")] = 4
    electricity_interval: Annotated[int, Field(description="A quarter-hour of electricity.")] = 1
    gas_interval: Annotated[int, Field(description="An hour of gas.")] = 2


class FluviusConfig(AccountConfig):
    """A personal account at Mijn Fluvius: e-mail and password, no second factor."""

    min_every: ClassVar[timedelta] = timedelta(minutes=15)
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "token", "portal_url", "identity_url")

    every: Annotated[Duration, Field(description="Distance between visits.")] = timedelta(hours=1)
    username: Annotated[str | None, Field(min_length=1, description="E-mail address of the account.")] = None
    password: Annotated[SecretStr | None, Field(min_length=1, description="Its password.")] = None
    token: Annotated[
        SecretStr | None, Field(min_length=1, description="An access token given by hand instead of signing in.")
    ] = None
    meters: Annotated[
        tuple[MeterConfig, ...], Field(min_length=1, description="The usage points, as the portal's pages name them.")
    ]
    portal_url: Annotated[BaseUrl, Field(description="Address of the portal and its API.")] = "https://mijn.fluvius.be"
    identity_url: Annotated[BaseUrl, Field(description="The only host that is ever sent the password.")] = (
        "https://login.fluvius.be"
    )
    user_agent: Annotated[
        str, Field(min_length=1, pattern=r"^[ -~]+$", description="How the exporter names itself to the portal.")
    ] = "Mozilla/5.0 (compatible; utility-exporter)"
    api: Annotated[Literal[2025, 2024], Field(description="Which form of the data API the portal speaks.")] = 2025
    granularity: Annotated[GranularityCodes, Field(description="The portal's codes for days and intervals.")] = GranularityCodes()
    days: Annotated[int, Field(ge=1, le=31, description="For how many days a day's amounts may still be corrected.")] = 14
    interval_days: Annotated[
        int, Field(ge=1, le=60, description="For how many days a day's intervals may still be corrected.")
    ] = 14
    interval_requests: Annotated[int, Field(ge=1, le=100, description="Maximum requests for past readings in one step.")] = 20
    past_days: Annotated[int, Field(ge=1, le=366, description="Days per request, where these are whole days.")] = 31
    past_requests: Annotated[int, Field(ge=1, description="Maximum requests within an hour.")] = 120
    past_empty_days: Annotated[int, Field(ge=1, description="Days without intervals after which nothing older is expected.")] = 30

    @model_validator(mode="after")
    def _check_account(self) -> Self:
        if not self.token and not (self.username and self.password):
            raise ValueError("needs username and password, or a token")
        eans = [meter.ean for meter in self.meters]
        for index, ean in enumerate(eans):
            if ean in eans[:index]:
                raise ValueError(f"meters[{index}] has the EAN of meters[{eans.index(ean)}]; list both serials there")
        if self.api == 2024 and any(meter.intervals for meter in self.meters):
            raise ValueError("the API of 2024 has no intervals: leave `intervals` out, or use api: 2025")
        return self

    def configured_usage_points(self) -> frozenset[str]:
        """Return the EANs of all meters."""
        return frozenset(meter.ean for meter in self.meters)

    @property
    def quota(self) -> CallQuota:
        """The hourly quota.

        A sixth of it, or three calls per meter if that is more (at most half), is reserved for days that are not settled.
        """
        reserved = min(max(self.past_requests // 6, 3 * len(self.meters)), self.past_requests // 2)
        return CallQuota(self.past_requests, QUOTA_PERIOD, reserved_for_visits=reserved, name=QUOTA_NAME)

    def describe_meter(self, meter: MeterConfig, serial: str | None = None) -> str:
        """Return the name of a meter in messages: its entry in the configuration, never its number."""
        entry = f"meters[{self.meters.index(meter)}]"
        return f"{entry}.serial[{meter.serial.index(serial)}]" if serial and len(meter.serial) > 1 else entry

    def get_day_granularity(self) -> int:
        """Return the code for days; the API of 2024 had another one."""
        is_configured = "day" in self.granularity.model_fields_set
        return 3 if self.api == 2024 and not is_configured else self.granularity.day

    def get_interval_granularity(self, meter: MeterConfig) -> int:
        """Return the code for quarter-hours, or hours of gas."""
        return self.granularity.gas_interval if meter.commodity is Commodity.GAS else self.granularity.electricity_interval

    def build_headers(self) -> Mapping[str, str]:
        """Return the headers of every request; refusals come in the requested language."""
        return {"User-Agent": self.user_agent, "Accept-Language": "nl-BE,nl;q=0.9,en;q=0.5"}
