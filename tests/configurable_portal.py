"""A portal with every kind of configuration key that a real one may have, and no network, for tests of the configuration."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from exporter.duration import Duration
from exporter.portals.base import AccountConfig, Portal


class ConfigurablePoint(BaseModel):
    """A usage point, optionally with its own token."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ean: str
    serial: str | tuple[str, ...] = ()
    token: SecretStr | None = None
    intervals: bool = False


class ConfigurableConfig(AccountConfig):
    """The keys of a contract at Brook Water."""

    min_every: ClassVar[timedelta] = timedelta(minutes=15)

    portal: Literal["brook"]
    username: Annotated[str, Field(min_length=1)]
    password: SecretStr
    client_secret: SecretStr | None = None
    every: Duration = timedelta(hours=2)
    meters: Annotated[tuple[str, ...], Field(max_length=3)] = ()
    points: tuple[ConfigurablePoint, ...] = ()
    counters: frozenset[Annotated[int, Field(ge=1)]] = frozenset()
    access: Literal["conso", "dataconnect"] = "conso"
    form: Literal[2026, "v5"] = 2026
    level: Annotated[float, Field(le=10)] = 1
    ca_file: Path | None = None
    window: str | None = None

    @field_validator("window")
    @classmethod
    def _window(cls, window: str | None) -> str | None:
        if window is not None and "-" not in window:
            raise ValueError(
                f"must be written like 05:00-20:00, not {window}"
                if window.startswith("x")
                else "must be written like 05:00-20:00"
            )
        return window

    def configured_usage_points(self) -> frozenset[str]:
        return frozenset(self.meters) | {point.ean for point in self.points}


class ConfigurablePortal(Portal):
    """A contract at Brook Water."""

    config: ConfigurableConfig
    config_model: ClassVar = ConfigurableConfig
    zone: ClassVar[ZoneInfo] = ZoneInfo("Europe/Brussels")
