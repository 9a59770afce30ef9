"""The login pages of Azure AD B2C: the two script variables with what to send back, and what else a page requires."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import Field

from exporter.client.html_forms import UNKNOWN_STEP_HINT, RequiredStep, extract_scripts, parse_page, recognize_step
from exporter.client.response import Response
from exporter.errors import LoginError, PortalError, ResponseError
from exporter.portals.base import Detail, FailFastList, ResponseModel, parse_response

SECOND_FACTOR = r"verif|otp|mfa|phone|factor"
"""Names of the fields of a form for a code."""
TERMS = r"terms|voorwaarden|consent"
"""Names of the fields of a form with new terms."""
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

    def find_required_step(self) -> RequiredStep | None:
        """Return what a field other than user name and password requires; None for one that may stay empty."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", f"{self.id} {self.input_type or ''} {self.label or ''}")
        known = recognize_step(words) or next((step for name, step in _FIELD_NAMES.items() if name in words.lower()), None)
        return known or (RequiredStep.UNKNOWN if self.required else None)


_FIELD_NAMES = {
    "verif": RequiredStep.SECOND_FACTOR,
    "phone": RequiredStep.SECOND_FACTOR,
    "factor": RequiredStep.SECOND_FACTOR,
    "auth code": RequiredStep.SECOND_FACTOR,
    "strong auth": RequiredStep.SECOND_FACTOR,
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
    steps = (None, RequiredStep.UNKNOWN)
    user = next((field.id for field in fields if not field.password and field.find_required_step() in steps), None)
    password = next((field.id for field in fields if field.password), None)
    if user is None or password is None:
        raise ResponseError("the page has changed: SA_FIELDS has no user and password")
    return user, password


def find_step_before_password(html: str, url: str) -> RequiredStep | None:
    """Return what the login page requires besides user name and password: then no password may be sent.

    The page's script sends what SA_FIELDS names; of other inputs only those count whose purpose is known.
    """
    page = parse_page(html, url)
    fields = parse_response(PageFields, _get_variable(html, "SA_FIELDS"), "the page's SA_FIELDS").fields
    names = parse_form_fields(html)
    steps = [page.find_step_before_password(form, names) for form in page.forms if form.has_input("password")]
    steps = [RequiredStep.CAPTCHA if page.has_captcha else None, *(one for one in steps if one is not RequiredStep.UNKNOWN)]
    steps += [field.find_required_step() for field in fields if field.id not in names]
    return next(filter(None, steps), None)


def find_required_step(html: str, url: str) -> RequiredStep | None:
    """Return what a page in place of a redirect requires, by its form's names, its mark, a widget or its words."""
    names = [str((_find_variable(html, "SETTINGS") or {}).get("api"))]
    fields = (_find_variable(html, "SA_FIELDS") or {}).get("AttributeFields")
    names += [str(one.get("ID")) for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
    if any(re.search(SECOND_FACTOR, name, re.IGNORECASE) for name in names):
        return RequiredStep.SECOND_FACTOR
    if any(re.search(TERMS, name, re.IGNORECASE) for name in names):
        return RequiredStep.TERMS
    return parse_page(html, url).find_required_step()


def is_login_page(html: str) -> bool:
    """Return whether it is a page of the login service."""
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


def build_page_error(response: Response) -> PortalError:
    """Return the error of a page in place of the redirect to the portal."""
    html = response.text()
    if step := find_required_step(html, response.url):
        return build_step_error(step)
    if is_login_page(html):
        return LoginError(f"the portal asks for a further step, {UNKNOWN_STEP_HINT}")
    return ResponseError(f"{response.label} returned status {response.status} and no redirect: the login has changed")


def build_step_error(step: RequiredStep) -> LoginError:
    """Return the error of a page that asks for more than e-mail address and password."""
    advice = "; disable it, or configure a token" if step is RequiredStep.SECOND_FACTOR else ""
    return LoginError(f"the portal asks for a further step: {step}{advice}")
