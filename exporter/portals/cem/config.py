"""The configuration of an account at CEM."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator

from exporter.duration import Duration
from exporter.portals.base import AccountConfig, BaseUrl, ConfigBlock

PRAGUE = ZoneInfo("Europe/Prague")


class NumberSelection(ConfigBlock):
    """Numbers to include, or to exclude."""

    include: Annotated[frozenset[int], Field(description="The numbers to include; all when empty.")] = frozenset()
    exclude: Annotated[frozenset[int], Field(description="The numbers to exclude.")] = frozenset()

    @model_validator(mode="after")
    def _check_disjoint(self) -> Self:
        if both := self.include & self.exclude:
            raise ValueError(f"{min(both)} is both included and excluded")
        return self


class CemConfig(AccountConfig):
    """The keys of a login at CEM."""

    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "base_url")

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(description="Its password.")]
    base_url: Annotated[BaseUrl, Field(description="Address of the API, host and path; it usually ends in /api.")] = (
        "https://cemapi.unimonitor.eu/api"
    )
    every: Annotated[Duration, Field(description="Distance between visits.")] = timedelta(minutes=30)
    ca_file: Annotated[Path | None, Field(description="Certificates to trust instead of the system's (PEM).")] = None
    verify_tls: Annotated[
        bool, Field(description="Check the portal's certificate. Without it anybody in between can read the password.")
    ] = True
    metadata_every: Annotated[Duration, Field(description="How often account, objects, meters and counters are requested.")] = (
        timedelta(hours=12)
    )
    types_every: Annotated[Duration, Field(description="How often counter types and units are requested.")] = timedelta(days=7)
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="Counters in one request.")] = 500
    parallel: Annotated[int, Field(ge=1, le=8, description="Requests in flight at the same time.")] = 2
    counters: Annotated[
        NumberSelection, Field(description="Counters by var_id; those included are shown even if hidden otherwise.")
    ] = NumberSelection()
    objects: Annotated[NumberSelection, Field(description="Objects by mis_id, with everything below them.")] = NumberSelection()
    include_states: Annotated[bool, Field(description="Show states, such as door contacts.")] = False
    include_removed: Annotated[bool, Field(description="Show the counters of removed meters.")] = False
    history_days: Annotated[int, Field(ge=1, le=366, description="Maximum days of past readings in one request.")] = 14
    history_limit: Annotated[Duration, Field(description="How far back past readings are requested.")] = timedelta(days=3 * 365)
    history_gap: Annotated[
        Duration, Field(description="How long a gap may be; where nothing comes for longer, nothing older is expected.")
    ] = timedelta(days=90)
    history_by: Annotated[
        Literal["auto", "account", "counter"],
        Field(description="Request the past readings of all counters at once, or counter by counter."),
    ] = "auto"

    def get_tls_settings(self) -> tuple[str | None, bool]:
        """Return the account's own certificate authorities, and whether to verify at all."""
        return str(self.ca_file) if self.ca_file else None, self.verify_tls
