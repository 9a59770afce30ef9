"""The login page of Azure AD B2C: its two script variables, found whatever stands around them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.html_forms import RequiredStep
from exporter.errors import ResponseError
from exporter.portals.fluvius import login_page

HTML = (Path(__file__).parent.parent / "fixtures" / "fluvius" / "signin.html").read_text()
URL = "https://login.fluvius.be/x"
TENANT = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"


def test_the_variables_of_the_page() -> None:
    """
    Both variables are read out of the script, past comments, other objects and texts that look like them.
    """
    settings = login_page.parse_settings(HTML)

    assert (settings.csrf, settings.transaction, settings.api) == (
        "bWFkZSB1cA==",
        "StateProperties=eyJUSUQiOiIwMDAwIn0",
        "CombinedSigninAndSignup",
    )
    assert (settings.hosts.tenant, settings.hosts.policy) == (TENANT, "B2C_1A_customer_signup_signin")
    assert login_page.parse_form_fields(HTML) == ("signInName", "password")
    assert login_page.find_step_before_password(HTML, URL) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("var SETTINGS = {", "var INSTELLINGEN = {", "no script variable SETTINGS"),
        ("var SETTINGS = {", "var SETTINGS = {{", "no script variable SETTINGS"),
        ('"csrf"', '"xsrf"', "SETTINGS has changed: csrf: field required"),
        ('"transId"', '"tx"', "SETTINGS has changed: transId: field required"),
        ('"tenant": "/', '"huurder": "/', "SETTINGS has changed: hosts.tenant: field required"),
        ('"CombinedSigninAndSignup"', '"../../evil"', "SETTINGS has changed: api: "),
    ],
)
def test_a_changed_page(old: str, new: str, message: str) -> None:
    """
    A page without what is needed is an error that names it.
    """
    assert old in HTML

    with pytest.raises(ResponseError, match=message):
        login_page.parse_settings(HTML.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("var SA_FIELDS", "var VELDEN", "no script variable SA_FIELDS"),
        ("AttributeFields", "Velden", "SA_FIELDS has changed: AttributeFields: field required"),
        ('"IS_PASSWORD": true', '"IS_PASSWORD": false', "SA_FIELDS has no user and password"),
    ],
)
def test_a_changed_form(old: str, new: str, message: str) -> None:
    """
    A form that asks for no password is no login with a password.
    """
    with pytest.raises(ResponseError, match=message):
        login_page.parse_form_fields(HTML.replace(old, new))


@pytest.mark.parametrize("name", ["verificationCode", "otpCode", "mfaPhone", "strongAuthenticationPhoneNumber"])
def test_a_second_factor_is_seen_by_its_fields(name: str) -> None:
    """
    A page that asks for a code is known by the names in its form.
    """
    assert login_page.find_required_step(HTML.replace("signInName", name), URL) is RequiredStep.SECOND_FACTOR
    assert login_page.find_required_step("<html><title>onderhoud</title></html>", URL) is None


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9)), st.text(max_size=9), st.text("{}\"'\\;=/ é\n", max_size=20))
def test_any_text_in_the_variable(more: dict[str, Any], around: str, csrf: str) -> None:
    """
    Whatever texts the object holds, braces and quotes too, it is read as it was written.
    """
    settings = more | {"csrf": csrf, "transId": "t", "api": "a", "hosts": {"tenant": "/t", "policy": "p"}}
    script = f"var OTHER = {json.dumps([around])}; var SETTINGS = {json.dumps(settings)};".replace("<", "\\u003c")

    assert login_page.parse_settings(f"<html><script>{script}</script></html>").csrf == csrf
