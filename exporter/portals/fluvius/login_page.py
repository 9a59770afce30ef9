"""The login pages of Azure AD B2C: two script variables hold what to send back."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import Field

from exporter.client.html_forms import extract_scripts
from exporter.errors import ResponseError
from exporter.portals.base import FailFastList, ResponseModel, parse_response

SECOND_FACTOR = r"verif|otp|mfa|phone|factor"
"""How the fields of a form for a code are called."""
MAX_MATCHES = 10
"""A page with more matches of one variable is malicious."""


class PageHosts(ResponseModel):
    """`tenant` is a path on the login host, or a whole address."""

    tenant: str
    policy: str


class PageSettings(ResponseModel):
    """The variable SETTINGS: what the page's own script sends back."""

    csrf: str
    transaction: str = Field(alias="transId")
    api: str = Field(pattern=r"^\w+$")
    hosts: PageHosts


class FormField(ResponseModel):
    """One entry of the page's form."""

    id: str = Field(alias="ID")
    password: bool = Field(alias="IS_PASSWORD", default=False)


class PageFields(ResponseModel):
    """The variable SA_FIELDS."""

    fields: FailFastList[FormField] = Field(alias="AttributeFields")


def parse_settings(html: str) -> PageSettings:
    """Return the variable SETTINGS. Raise ResponseError."""
    return parse_response(PageSettings, _get_variable(html, "SETTINGS"), "the page's SETTINGS")


def parse_form_fields(html: str) -> tuple[str, str]:
    """Return the names of the fields for user and password, from SA_FIELDS. Raise ResponseError."""
    fields = parse_response(PageFields, _get_variable(html, "SA_FIELDS"), "the page's SA_FIELDS").fields
    user = next((field.id for field in fields if not field.password), None)
    password = next((field.id for field in fields if field.password), None)
    if user is None or password is None:
        raise ResponseError("the page has changed: SA_FIELDS has no user and password")
    return user, password


def asks_for_second_factor(html: str) -> bool:
    """Whether a page asks for a code sent to a phone or made by an app, by the names of its form."""
    names = [str((_find_variable(html, "SETTINGS") or {}).get("api"))]
    fields = (_find_variable(html, "SA_FIELDS") or {}).get("AttributeFields")
    names += [str(one.get("ID")) for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
    return any(re.search(SECOND_FACTOR, name, re.IGNORECASE) for name in names)


def is_login_page(html: str) -> bool:
    """Whether it is a page of the login service."""
    return _find_variable(html, "SETTINGS") is not None


def _get_variable(html: str, name: str) -> Mapping[str, Any]:
    found = _find_variable(html, name)
    if found is None:
        raise ResponseError(f"the page has changed: no script variable {name}")
    return found


def _find_variable(html: str, name: str) -> Mapping[str, Any] | None:
    """Find `var NAME = {...}` in the page's scripts."""
    for text in extract_scripts(html):
        for start in islice(re.finditer(rf"\b{name}\s*=\s*(?=\{{)", text), MAX_MATCHES):
            try:
                value, _ = json.JSONDecoder().raw_decode(text, start.end())
            except (ValueError, RecursionError):
                continue
            return value if isinstance(value, dict) else None
    return None
