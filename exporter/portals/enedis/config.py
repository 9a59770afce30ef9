"""The configuration of an Enedis account: usage points, API versions, and which keys go together."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from exporter.portals.enedis.schedule import VisitWindow

ApiVersion = Literal["2026", "v5", "v1", "v2"]


class AccessMethod(StrEnum):
    """The three kinds of access."""

    CONSO = "conso"
    DATACONNECT = "dataconnect"
    MYELECTRICALDATA = "myelectricaldata"


API_VERSIONS: Mapping[AccessMethod, tuple[ApiVersion, ApiVersion]] = {
    AccessMethod.CONSO: ("2026", "v5"),
    AccessMethod.DATACONNECT: ("2026", "v5"),
    AccessMethod.MYELECTRICALDATA: ("v2", "v1"),
}
"""The API versions of an access, the default first."""
BASE_URLS: Mapping[tuple[AccessMethod, str], str] = {
    (AccessMethod.CONSO, "2026"): "https://conso.boris.sh/api",
    (AccessMethod.CONSO, "v5"): "https://conso.boris.sh/api",
    (AccessMethod.DATACONNECT, "2026"): "https://gw.ext.prod.api.enedis.fr",
    (AccessMethod.DATACONNECT, "v5"): "https://gw.ext.prod.api.enedis.fr",
    (AccessMethod.MYELECTRICALDATA, "v2"): "https://www.v2.myelectricaldata.fr/api",
    (AccessMethod.MYELECTRICALDATA, "v1"): "https://myelectricaldata.fr",
}


def _check_prm(prm: object) -> object:
    """Accept a number only while it still has its 14 digits: YAML drops leading zeros, or reads them as octal."""
    text = str(prm) if isinstance(prm, int) and not isinstance(prm, bool) else prm
    if isinstance(prm, int) and len(str(text)) != 14:
        raise ValueError('was read as a number and may have lost its zeros; write it in quotes: "01234567890123"')
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{14}", text):
        raise ValueError("is not a PRM: 14 digits")
    return text


def _to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_window(text: str) -> str:
    VisitWindow.parse(text)
    return text


def _check_header_text(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("goes into a header: plain letters, digits and signs only")
    return text


Prm = Annotated[str, BeforeValidator(_check_prm), Field(description="The number of the point of delivery, 14 digits, in quotes.")]
OptionalApiVersion = Annotated[ApiVersion | None, BeforeValidator(_to_text)]
WindowText = Annotated[str, AfterValidator(_check_window)]
HeaderText = Annotated[str, Field(max_length=200), AfterValidator(_check_header_text)]


class UsagePointConfig(BaseModel):
    """One of `usage_points`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prm: Prm
    consumption: Annotated[bool, Field(description="Read what is consumed; false for a point that only produces.")] = True
    production: Annotated[bool, Field(description="Read what is fed in, too.")] = False
    load_curve: Annotated[bool, Field(description="Read the load curve, too.")] = True
    token: Annotated[SecretStr | None, Field(description="myelectricaldata v1: the token of this usage point.")] = None

    @model_validator(mode="after")
    def _check_directions(self) -> Self:
        if not (self.consumption or self.production):
            raise ValueError("consumption: nothing is read of a point without consumption and production")
        return self


def find_conflict(configured: Mapping[str, bool], access: AccessMethod, api: ApiVersion, point_tokens: list[bool]) -> str | None:
    """Return what is wrong with a combination of keys, None if nothing; `configured` says which keys have a value."""
    if api not in API_VERSIONS[access]:
        return f"api: with access {access} it is {' or '.join(API_VERSIONS[access])}"
    required = {
        AccessMethod.CONSO: {"token"},
        AccessMethod.DATACONNECT: {"client_id", "client_secret", "usage_points"},
        AccessMethod.MYELECTRICALDATA: {"usage_points"} if api == "v1" else {"token", "usage_points"},
    }[access]
    context = f"access {access}" + (" and api v1" if api == "v1" else "")
    for key, is_set in configured.items():
        if key in required and not is_set:
            return f"{key}: is needed with {context}"
        if key not in required and is_set and key != "usage_points":
            return f"{key}: is of no use with {context}; leave it out"
    if api == "v1" and not all(point_tokens):
        return f"usage_points[{point_tokens.index(False)}].token: is needed with {context}"
    if api != "v1" and any(point_tokens):
        return f"usage_points[{point_tokens.index(True)}].token: is of use only with access myelectricaldata and api v1"
    return None
