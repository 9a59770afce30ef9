"""The pages of Azure AD B2C: two script variables in them say how the page wants to be answered."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import Field

from exporter.errors import ResponseError
from exporter.forms import scripts
from exporter.portals.base import AnswerShape, Listed, understand

FEW = 10
"""More places that look like one variable are a page made to be read for ever."""


class Hosts(AnswerShape):
    """`tenant` is a path on the login host, or a whole address."""

    tenant: str
    policy: str


class Settings(AnswerShape):
    """The variable SETTINGS: what the page's own script sends back."""

    csrf: str
    transaction: str = Field(alias="transId")
    api: str = Field(pattern=r"^\w+$")
    hosts: Hosts


class FormField(AnswerShape):
    """One entry of the page's form."""

    id: str = Field(alias="ID")
    password: bool = Field(alias="IS_PASSWORD", default=False)


class Fields(AnswerShape):
    """The variable SA_FIELDS."""

    fields: Listed[FormField] = Field(alias="AttributeFields")


def settings(html: str) -> Settings:
    """Read SETTINGS; raises ResponseError."""
    return understand(Settings, _variable(html, "SETTINGS"), "the page's SETTINGS")


def form_fields(html: str) -> tuple[str, str]:
    """Give the names of the fields for user and password, from SA_FIELDS; raises ResponseError."""
    fields = understand(Fields, _variable(html, "SA_FIELDS"), "the page's SA_FIELDS").fields
    user = next((one.id for one in fields if not one.password), None)
    password = next((one.id for one in fields if one.password), None)
    if user is None or password is None:
        raise ResponseError("the page has changed: its SA_FIELDS ask for no user and password")
    return user, password


def wants_second_factor(html: str) -> bool:
    """Whether a page asks for a code sent to a phone or made by an app, by the names of its form."""
    names = [str((_find(html, "SETTINGS") or {}).get("api"))]
    fields = (_find(html, "SA_FIELDS") or {}).get("AttributeFields")
    names += [str(one.get("ID")) for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
    return any(re.search(r"verif|otp|mfa|phone|factor", name, re.IGNORECASE) for name in names)


def is_b2c(html: str) -> bool:
    """Whether it is a page of the login service at all."""
    return _find(html, "SETTINGS") is not None


def _variable(html: str, name: str) -> Mapping[str, Any]:
    found = _find(html, name)
    if found is None:
        raise ResponseError(f"the page has changed: it has no script variable {name}")
    return found


def _find(html: str, name: str) -> Mapping[str, Any] | None:
    """Find `var NAME = {...}` in the page's scripts."""
    for text in scripts(html):
        for start in islice(re.finditer(rf"\b{name}\s*=\s*(?=\{{)", text), FEW):
            try:
                value, _ = json.JSONDecoder().raw_decode(text, start.end())
            except (ValueError, RecursionError):
                continue
            return value if isinstance(value, dict) else None
    return None
