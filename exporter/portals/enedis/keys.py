"""What the configuration may say: usage points, forms of the API, and which keys go together."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from exporter.portals.enedis.schedule import Window

Api = Literal["2026", "v5", "v1", "v2"]


class Access(StrEnum):
    """The three ways to the measures."""

    CONSO = "conso"
    DATACONNECT = "dataconnect"
    MYELECTRICALDATA = "myelectricaldata"


APIS: Mapping[Access, tuple[Api, Api]] = {
    Access.CONSO: ("2026", "v5"),
    Access.DATACONNECT: ("2026", "v5"),
    Access.MYELECTRICALDATA: ("v2", "v1"),
}
"""The forms of the API that a way speaks, its default first."""
ADDRESSES: Mapping[tuple[Access, str], str] = {
    (Access.CONSO, "2026"): "https://conso.boris.sh",
    (Access.CONSO, "v5"): "https://conso.boris.sh",
    (Access.DATACONNECT, "2026"): "https://gw.ext.prod.api.enedis.fr",
    (Access.DATACONNECT, "v5"): "https://gw.ext.prod.api.enedis.fr",
    (Access.MYELECTRICALDATA, "v2"): "https://www.v2.myelectricaldata.fr/api",
    (Access.MYELECTRICALDATA, "v1"): "https://myelectricaldata.fr",
}


def _digits(prm: object) -> object:
    """Accept a number only while it still has its 14 digits: YAML drops leading zeros, or reads them as octal."""
    text = str(prm) if isinstance(prm, int) and not isinstance(prm, bool) else prm
    if isinstance(prm, int) and len(str(text)) != 14:
        raise ValueError('was read as a number and may have lost its zeros; write it in quotes: "01234567890123"')
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{14}", text):
        raise ValueError("is not a PRM: 14 digits")
    return text


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _window(text: str) -> str:
    Window.read(text)
    return text


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("is not an address like https://conso.boris.sh")
    return url.rstrip("/")


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("goes into a header: plain letters, digits and signs only")
    return text


Prm = Annotated[str, BeforeValidator(_digits), Field(description="The number of the point of delivery, 14 digits, in quotes.")]
ApiKey = Annotated[Api | None, BeforeValidator(_text)]
WindowText = Annotated[str, AfterValidator(_window)]
Address = Annotated[str, AfterValidator(_address)]
Contact = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class UsagePointKeys(BaseModel):
    """One of `usage_points`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prm: Prm
    production: Annotated[bool, Field(description="Read what is fed in, too.")] = False
    load_curve: Annotated[bool, Field(description="Read the load curve, too.")] = True
    token: Annotated[SecretStr | None, Field(description="myelectricaldata v1: the token of this usage point.")] = None


def unusable(given: Mapping[str, bool], access: Access, api: Api, point_tokens: list[bool]) -> str | None:
    """Say what makes a combination of keys unusable, naming the key; `given` tells which keys have a value."""
    if api not in APIS[access]:
        return f"api: with access {access} it is {' or '.join(APIS[access])}"
    wanted = {
        Access.CONSO: {"token"},
        Access.DATACONNECT: {"client_id", "client_secret", "usage_points"},
        Access.MYELECTRICALDATA: {"usage_points"} if api == "v1" else {"token", "usage_points"},
    }[access]
    spoken = f"access {access}" + (" and api v1" if api == "v1" else "")
    for key, there in given.items():
        if key in wanted and not there:
            return f"{key}: is needed with {spoken}"
        if key not in wanted and there and key != "usage_points":
            return f"{key}: is of no use with {spoken}; leave it out"
    if api == "v1" and not all(point_tokens):
        return f"usage_points[{point_tokens.index(False)}].token: is needed with {spoken}"
    if api != "v1" and any(point_tokens):
        return f"usage_points[{point_tokens.index(True)}].token: is of use only with access myelectricaldata and api v1"
    return None
