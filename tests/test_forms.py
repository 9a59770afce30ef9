"""Forms read as a browser reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.html_forms import HtmlForm, RequiredStep, parse_page

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


@pytest.mark.parametrize(
    ("base", "action", "where"),
    [
        ("/idp/", "login", "https://idp.example/idp/login"),
        ("https://cdn.example/a/", "login", "https://cdn.example/a/login"),
        ("https://cdn.example/a/", "/login", "https://cdn.example/login"),
        ("https://cdn.example/a/", "", HERE),
        ("", "login", "https://idp.example/oauth2/login"),
    ],
)
def test_a_base_address_counts(base, action, where):
    """
    `<base href>` is where relative actions start from; a form without an action posts to its own page all the same.
    """
    head = f'<head><base target="_top"><base href="{base}"><base href="/x/"></head>'
    (form,) = parse_page(f'{head}<form action="{action}" method=post></form>', HERE).forms

    assert form.action == where


FIELDS = "<input name=user><input type=password name=word><input type=checkbox name=stay><input type=hidden name=csrf value=1>"
ASKS_FOR_MORE = {
    "a reCAPTCHA": ('<div class="g-recaptcha" data-sitekey="x"></div>', RequiredStep.CAPTCHA),
    "an hCaptcha": ('<div class="box h-captcha"></div>', RequiredStep.CAPTCHA),
    "a Turnstile": ("<div class=cf-turnstile></div>", RequiredStep.CAPTCHA),
    "a captcha in a frame": ('<iframe src="https://www.google.com/recaptcha/api2/anchor"></iframe>', RequiredStep.CAPTCHA),
    "a box in Dutch": ("<label for=c>Typ de tekens die u ziet</label><input id=c name=c>", RequiredStep.CAPTCHA),
    "a box in French": ("<label>Saisissez les caractères <input name=c></label>", RequiredStep.CAPTCHA),
    "a box in English": ('<input name=c placeholder="Type the characters you see">', RequiredStep.CAPTCHA),
    "a code in Dutch": ("<label>Verificatiecode<input type=tel name=c></label>", RequiredStep.SECOND_FACTOR),
    "a code in French": ('<input name=c title="Code de vérification">', RequiredStep.SECOND_FACTOR),
    "a code by its name": ("<input name=otp autocomplete=one-time-code>", RequiredStep.SECOND_FACTOR),
    "a second password": ('<input type=password name=two placeholder="Nieuw wachtwoord">', RequiredStep.NEW_PASSWORD),
    "terms in Dutch": ('<input name=c placeholder="Aanvaard de voorwaarden: typ JA">', RequiredStep.TERMS),
    "something else": ("<input name=c>", RequiredStep.UNKNOWN),
}


@pytest.mark.parametrize("name", ASKS_FOR_MORE)
@pytest.mark.parametrize("where", ["in the form", "around it"])
def test_a_login_page_that_asks_for_more(name, where):
    """
    A captcha widget anywhere beside the password, or a further field in its form, says what it is in three languages.
    """
    more, step = ASKS_FOR_MORE[name]
    inside = where == "in the form"
    page = parse_page(f"<form method=post>{FIELDS}{more if inside else ''}</form>{'' if inside else more}", HERE)

    is_field = "<input" in more
    assert page.find_step_before_password(page.forms[0], {"user", "word"}) == (None if is_field and not inside else step)


@pytest.mark.parametrize(
    "more",
    [
        "",
        '<input name=trap style="display: none">',
        "<div hidden><div class=g-recaptcha></div><input name=trap></div>",
        "<input type=submit name=go><input type=button name=forgot><input name=off disabled>",
        "<a href=#>Gebruiksvoorwaarden</a> <a href=#>Terms of use</a> <p>This site is no robot</p>",
        "</form><form><div class=g-recaptcha></div><input name=newsletter></form><form>",
    ],
)
def test_a_login_page_that_asks_for_nothing_more(more):
    """
    What nobody sees, buttons, the words of a footer and another form's captcha are no reason to stay away.
    """
    page = parse_page(f"<form method=post>{FIELDS}{more}</form>", HERE)

    assert page.find_step_before_password(page.forms[0], {"user", "word"}) is None


@pytest.mark.parametrize(
    ("html", "step"),
    [
        ('<body data-page="ids-two_factor_choice/logon">Kies</body>', RequiredStep.SECOND_FACTOR),
        ('<main data-page="ids-terms_of_use">Weiter</main>', RequiredStep.TERMS),
        ('<div data-page="ids-change_password">Aa</div>', RequiredStep.NEW_PASSWORD),
        ("<div class=h-captcha></div>Welkom", RequiredStep.CAPTCHA),
        ("Tweestapsverificatie", RequiredStep.SECOND_FACTOR),
        ("Veuillez recopier les caractères", RequiredStep.CAPTCHA),
        ("Nos conditions d’utilisation ont changé", RequiredStep.TERMS),
        ("Uw wachtwoord is verlopen", RequiredStep.NEW_PASSWORD),
        ("Welkom!", None),
    ],
)
def test_what_a_page_after_the_password_asks_for(html, step):
    """
    By the page's own mark whatever its language, by a widget, else by its words.
    """
    page = parse_page(f"<html>{html}</html>", HERE)

    assert page.find_required_step() is step
    assert page.find_required_step(by_words=False) is (step if "data-page" in html or "captcha" in html else None)


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
