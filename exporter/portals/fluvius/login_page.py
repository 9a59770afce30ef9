"""The login pages of Azure AD B2C: two script variables hold what to send back."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import Field

from exporter.client.html_forms import LoginDemand, extract_scripts, parse_page, recognize_demand
from exporter.errors import ResponseError
from exporter.portals.base import Detail, FailFastList, ResponseModel, parse_response

SECOND_FACTOR = r"verif|otp|mfa|phone|factor"
"""How the fields of a form for a code are called."""
TERMS = r"terms|voorwaarden|consent"
"""How those of a form with new terms are."""
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
    required: bool = Field(alias="IS_REQ", default=True)
    label: Detail[str] = Field(alias="DN", default=None)
    input_type: Detail[str] = Field(alias="UX_INPUT_TYPE", default=None)

    def find_demand(self) -> LoginDemand | None:
        """Return what a field other than user name and password requires; None for one that may stay empty."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", f"{self.id} {self.input_type or ''} {self.label or ''}")
        known = recognize_demand(words) or next((demand for name, demand in _FIELD_NAMES.items() if name in words.lower()), None)
        return known or (LoginDemand.UNKNOWN if self.required else None)


_FIELD_NAMES = {
    "verif": LoginDemand.SECOND_FACTOR,
    "phone": LoginDemand.SECOND_FACTOR,
    "factor": LoginDemand.SECOND_FACTOR,
    "auth code": LoginDemand.SECOND_FACTOR,
    "strong auth": LoginDemand.SECOND_FACTOR,
}
"""Words in the names of fields, which are English in every language."""


class PageFields(ResponseModel):
    """The variable SA_FIELDS."""

    fields: FailFastList[FormField] = Field(alias="AttributeFields")


def parse_settings(html: str) -> PageSettings:
    """Return the variable SETTINGS. Raise ResponseError."""
    return parse_response(PageSettings, _get_variable(html, "SETTINGS"), "the page's SETTINGS")


def parse_form_fields(html: str) -> tuple[str, str]:
    """Return the names of the fields for user and password, from SA_FIELDS. Raise ResponseError."""
    fields = parse_response(PageFields, _get_variable(html, "SA_FIELDS"), "the page's SA_FIELDS").fields
    demands = (None, LoginDemand.UNKNOWN)
    user = next((field.id for field in fields if not field.password and field.find_demand() in demands), None)
    password = next((field.id for field in fields if field.password), None)
    if user is None or password is None:
        raise ResponseError("the page has changed: SA_FIELDS has no user and password")
    return user, password


def find_demand_before(html: str, url: str) -> LoginDemand | None:
    """Return what the sign-in page requires besides user name and password: then no password may be sent.

    The page's script sends what SA_FIELDS names; of other inputs only those count whose purpose is known.
    """
    page = parse_page(html, url)
    fields = parse_response(PageFields, _get_variable(html, "SA_FIELDS"), "the page's SA_FIELDS").fields
    names = parse_form_fields(html)
    demands = [page.find_demand_before(form, names) for form in page.forms if form.has_input("password")]
    demands = [LoginDemand.CAPTCHA if page.has_captcha else None, *(one for one in demands if one is not LoginDemand.UNKNOWN)]
    demands += [field.find_demand() for field in fields if field.id not in names]
    return next(filter(None, demands), None)


def find_demand(html: str, url: str) -> LoginDemand | None:
    """Return what a page in place of a redirect requires, by its form's names, its mark, a widget or its words."""
    names = [str((_find_variable(html, "SETTINGS") or {}).get("api"))]
    fields = (_find_variable(html, "SA_FIELDS") or {}).get("AttributeFields")
    names += [str(one.get("ID")) for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
    if any(re.search(SECOND_FACTOR, name, re.IGNORECASE) for name in names):
        return LoginDemand.SECOND_FACTOR
    if any(re.search(TERMS, name, re.IGNORECASE) for name in names):
        return LoginDemand.TERMS
    return parse_page(html, url).find_demand()


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
