"""Forms read as a browser reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.html_forms import HtmlForm, parse_page

HERE = "https://idp.example/oauth2/authorize?client_id=c-1"
LOGIN = (Path(__file__).parent / "fixtures" / "water_link" / "login.html").read_text()


def test_a_form_is_what_a_browser_would_send():
    """
    Either kind of quotes, escapes undone, ticked boxes; no buttons, nothing disabled or without a name, no script's form.
    """
    language, login = parse_page(LOGIN, HERE).forms

    assert (language.method, language.values) == ("get", {"lang": "fr"})
    assert (login.method, login.action) == ("post", "https://idp.example/oauth2/authorize?client_id=c-1&state=abc")
    assert login.values == {
        "utf8": "✓",
        "authenticity_token": "a+b/c==",
        "xsrfProtection": "\"x\" & 'y'",
        "RelayState": "client_id=c-1&redirect_uri=https://portal.example&state=abc",
        "spId": "6413d2",
        "targetUrl": "https%3A%2F%2Fidp.example%2Foauth2%2Fauthorize%3Fa%3D1",
        "css": "",
        "j_username": "",
        "j_password": "",
        "remember": "on",
    }
    assert login.has_input("password")
    assert not language.has_input("password")


@pytest.mark.parametrize(
    ("action", "where", "stays"),
    [
        ("", HERE, True),
        ('action=""', HERE, True),
        ('action="/saml2/idp/sso"', "https://idp.example/saml2/idp/sso", True),
        ('action="sso?a=1&amp;b=2"', "https://idp.example/oauth2/sso?a=1&b=2", True),
        ('action="https://idp.example:443/x"', "https://idp.example/x", True),
        ('action="http://idp.example/x"', "http://idp.example/x", False),
        ('action="https://idp.example.evil.test/x"', "https://idp.example.evil.test/x", False),
        ('action="//evil.test/x"', "https://evil.test/x", False),
        ('action="https://idp.example@evil.test/x"', "https://idp.example@evil.test/x", False),
        ('action="https://idp.example:8443/x"', "https://idp.example:8443/x", False),
        ('action="javascript:void(0)"', "javascript:void(0)", False),
        ('action="http://[bad"', "http://[bad", False),
    ],
)
def test_an_action_is_absolute_and_known_to_stay_or_to_leave(action, where, stays):
    """
    A relative action is resolved, a missing one is the page itself, and one on another scheme, host or port is told apart.
    """
    (form,) = parse_page(f"<form {action} method=post></form>", HERE).forms

    assert form.action == where
    assert form.posts_to_origin("https://idp.example") is stays


def test_the_text_is_what_a_reader_sees():
    """
    Title and words with blanks run together; scripts and styles are not read.
    """
    page = parse_page("<title>A\n b</title><style>c</style><script>'locked'</script><p>d&eacute;<b>e</b></p>", HERE)

    assert page.text == "A b dé e"


@pytest.mark.parametrize("html", ["", "plain words", "<![", '<?xml version="1.0"?><html><body>x</body></html>', "<" * 500])
def test_what_is_no_page_has_no_forms(html):
    """
    Anything can stand where a page is due.
    """
    assert parse_page(html, HERE).forms == ()


@given(st.text(), st.text(alphabet="<>/=\"' abforminput![]&;-?\n", max_size=200))
def test_no_page_breaks_the_reader(anything, almost):
    """
    Whatever comes, it gives forms or none.
    """
    for html in (anything, almost, f"<form>{almost}"):
        assert all(isinstance(form, HtmlForm) for form in parse_page(html, HERE).forms)
