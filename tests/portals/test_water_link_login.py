"""Water-Link's login: five steps, at most one password, and the reason of a page that comes back."""

import re
from datetime import timedelta

import pytest

from exporter.client.html_forms import parse_page
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import Index
from exporter.portals.water_link.account import WaterLink
from exporter.portals.water_link.auth import _build_refusal
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.identity_provider import PAGE_TEXTS
from exporter.simulators.water_link.simulation import WaterLinkSimulation

SECRETS = re.compile(r"bewoner|example\.com|geheim|20441[78]|Verzonnenlaan|[0-9a-f]{32}|[\w-]{40}")
AUTHORIZE, TOKEN = "/oauth2/authorize", "/oauth2/token"


@pytest.fixture
async def portal(clock):
    simulation = WaterLinkSimulation(clock)
    async with run_simulation(simulation) as url:
        yield simulation, simulation.build_accounts(url)[0]


@pytest.fixture
def log_in(portal, visit):
    """Visit the simulation, with keys that differ if need be; a visit is a login here."""

    async def go(patience: float = 5, **keys):
        async with visit(timeout=timedelta(seconds=patience)) as session:
            return (await WaterLink(WaterLinkConfig(**portal[1] | keys)).fetch_latest(session)).readings

    return go


def list_requests(simulation, path=""):
    return [f"{request.method} {request.path}" for request in simulation.requests if path in request.path]


async def failing(log_in, error_class: type[PortalError], **keys) -> str:
    """Return the message of a login that fails, and check that it has no secret."""
    with pytest.raises(error_class) as caught:
        await log_in(**keys)
    assert type(caught.value) is error_class
    assert not SECRETS.search(str(caught.value))
    assert not SECRETS.search(str(caught.value.__cause__))
    return str(caught.value)


async def test_five_steps(portal, log_in):
    """
    The portal, the login page, the form, the password, the token: the strict provider accepts each, and counts one password.
    """
    simulation, _ = portal

    assert any(isinstance(part, Index) for part in await log_in())
    assert simulation.login_count == 1
    assert list_requests(simulation)[:4] == [
        "GET /portal",
        "GET /identity/oauth2/authorize",
        "POST /identity/oauth2/authorize",
        "POST /identity/oauth2/token",
    ]


async def test_a_token_is_kept_until_it_ends(portal, log_in, clock):
    """
    Another session, as after a restart, needs no login until a minute before the token's end.
    """
    simulation, _ = portal
    simulation.identity_provider.refresh_lifetime = None
    await log_in()
    clock.advance(minutes=58)
    await log_in()

    assert simulation.login_count == 1

    clock.advance(minutes=1)
    await log_in()

    assert simulation.login_count == 2


async def test_a_day_of_visits_sends_one_password(portal, log_in, clock):
    """
    The token is renewed by its refresh token, each of which works once.
    """
    simulation, _ = portal
    for _ in range(12):
        assert await log_in()
        clock.advance(hours=2)

    assert (simulation.login_count, simulation.identity_provider.renewals) == (1, 11)


@pytest.mark.parametrize("fault", ["", "status:400", "status:404", "html", "garbage"])
async def test_a_refresh_token_that_is_not_accepted_costs_one_password(portal, log_in, clock, fault):
    """
    It has expired, or the answer is not understood: the login goes on with the password in the same visit.
    """
    simulation, _ = portal
    await log_in()
    clock.advance(hours=2 if fault else 13)
    if fault:
        simulation.faults.add(TOKEN, fault, times=1)

    assert await log_in()
    assert (simulation.login_count, simulation.identity_provider.renewals) == (2, 0)


@pytest.mark.parametrize(("fault", "error_class"), [("status:503", UnreachableError), ("retry:60", RateLimitError)])
async def test_a_provider_that_is_away_gets_no_password(portal, log_in, clock, fault, error_class):
    """
    When the renewal cannot be answered now, the login would fail as well.
    """
    simulation, _ = portal
    await log_in()
    clock.advance(hours=2)
    simulation.faults.add(TOKEN, fault)

    await failing(log_in, error_class)
    assert simulation.login_count == 1


@pytest.mark.parametrize("session_end", ["401", "403", "redirect", "page"])
async def test_a_session_that_ended_costs_one_login_whatever_its_face(portal, log_in, clock, session_end):
    """
    A token that is good by its date is answered 401, 403, with a redirect to the login, or with its page.
    """
    simulation, _ = portal
    simulation.session_end = session_end
    before = await log_in()
    clock.advance(minutes=10)
    simulation.expire_tokens()

    assert await log_in() == before
    assert simulation.login_count == 2


@pytest.mark.parametrize("language", ["nl", "fr", "en"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("captcha_widget", "a captcha is required"),
        ("captcha_box", "a captcha is required"),
        ("code_box", "a second factor is required"),
        ("further_box", "the login page has a further field"),
    ],
)
async def test_a_login_page_that_asks_for_more_gets_no_password(portal, log_in, language, fault, message):
    """
    A captcha beside the password or a further field: nothing is sent, and the message says what it is.
    """
    simulation, _ = portal
    simulation.identity_provider.language = language
    simulation.faults.add(AUTHORIZE, fault)
    text = await failing(log_in, LoginError)

    assert text.startswith(f"login, step 3 (the login form): {message}")
    assert text.endswith("; no password was sent")
    assert simulation.login_count == 0


async def test_a_page_is_known_by_its_own_mark(portal, log_in):
    """
    Its attribute `data-page` says in any language what a page asks for.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, "post:marked_page")

    assert "a second factor is required" in await failing(log_in, LoginError)


async def test_the_base_address_of_a_page_counts(portal, log_in):
    """
    A relative action starts from `<base href>`.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, "base_href")

    assert await log_in()
    assert simulation.login_count == 1


async def test_a_token_without_a_stated_end_lives_an_hour(portal, log_in, clock):
    """
    That is the product's default.
    """
    simulation, _ = portal
    simulation.faults.add(TOKEN, "no_expiry")
    await log_in()
    clock.advance(minutes=58)
    await log_in()

    assert simulation.login_count == 1


async def test_each_login_begins_with_an_empty_cookie_jar(portal, visit, clock):
    """
    Within one session the provider's own cookie would skip the form; a fresh jar brings the form again.
    """
    simulation, entry = portal
    simulation.identity_provider.refresh_lifetime = None
    async with visit() as session:
        for _ in range(2):
            assert (await WaterLink(WaterLinkConfig(**entry)).fetch_latest(session)).readings
            clock.advance(hours=2)

    assert list_requests(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize", "POST /identity/oauth2/authorize"] * 2


async def test_a_live_session_that_skips_the_form_gets_a_token(portal, log_in):
    """
    The login page is then a redirect with the code: no password is sent.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, "live_session")

    assert any(isinstance(part, Index) for part in await log_in())
    assert simulation.login_count == 0


async def test_a_token_that_is_refused_costs_one_new_login(portal, log_in, clock):
    """
    A token that ended before its time is renewed once, and the call repeated once.
    """
    simulation, _ = portal
    await log_in()
    clock.advance(minutes=10)
    simulation.expire_tokens()

    assert any(isinstance(part, Index) for part in await log_in())
    assert simulation.login_count == 2


async def test_a_fresh_token_that_is_refused_costs_no_further_login(portal, log_in):
    """
    A portal that accepts no token at all costs no further logins.
    """
    simulation, _ = portal
    simulation.faults.add("/api/", "status:401")

    assert "refused the token of a new login" in await failing(log_in, ResponseError)
    assert simulation.login_count == 1
    assert len(list_requests(simulation, "/api/")) == 1


async def test_a_wrong_password_costs_exactly_one_try(portal, log_in):
    """
    It is a LoginError, upon which nobody tries again; the step is named.
    """
    simulation, _ = portal

    assert await failing(log_in, LoginError, password="geheim-wrong") == (
        "login, step 4 (the password): user name or password is refused"
    )
    assert simulation.login_count == 1
    assert not list_requests(simulation, TOKEN)


@pytest.mark.parametrize("language", ["nl", "fr", "en"])
async def test_a_locked_account_is_named(portal, log_in, clock, language):
    """
    After five wrong passwords the right one is refused for an hour.
    """
    simulation, _ = portal
    simulation.identity_provider.language = language
    for _ in range(5):
        await failing(log_in, LoginError, password="geheim-wrong")

    assert "step 4 (the password): the account is locked" in await failing(log_in, LoginError)

    clock.advance(hours=1)

    assert await log_in()


@pytest.mark.parametrize("language", ["nl", "fr", "en"])
@pytest.mark.parametrize(
    ("page", "error_class", "message"),
    [
        ("wrong_password", LoginError, "user name or password is refused"),
        ("locked", LoginError, "the account is locked"),
        ("second_factor", LoginError, "a second factor is required"),
        ("terms", LoginError, "new terms must be accepted"),
        ("new_password", LoginError, "a new password is required"),
        ("captcha", LoginError, "a captcha is required"),
        ("maintenance", UnreachableError, "returned a maintenance page"),
        (
            "unknown_page",
            LoginError,
            "an unknown page came back, perhaps a second factor, new terms or a captcha: sign in with a browser",
        ),
    ],
)
async def test_the_page_that_comes_back_gives_the_reason(portal, log_in, page, language, error_class, message):
    """
    In any of the three languages; an unknown page is a refusal too, for each retry may cost a try.
    """
    simulation, _ = portal
    simulation.identity_provider.language = language
    simulation.faults.add(AUTHORIZE, f"post:{page}")

    assert (await failing(log_in, error_class)).startswith(f"login, step 4 (the password): {message}")
    assert simulation.login_count == 1


@pytest.mark.parametrize(
    ("fault", "error_class", "message"),
    [
        ("wrong_state", ResponseError, "state mismatch"),
        ("refused_code", LoginError, "the login was refused"),
        ("later", UnreachableError, "login service temporarily unavailable"),
        ("no_code", LoginError, "redirect has no code"),
        ("stray", LoginError, "sent on to another address than redirect_uri"),
    ],
)
async def test_a_redirect_is_read_with_care(portal, log_in, fault, error_class, message):
    """
    The state is compared, the address too, and no token is requested with a code that is not ours.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, f"post:{fault}")

    assert (await failing(log_in, error_class)).startswith(f"login, step 4 (the code): {message}")
    assert not list_requests(simulation, TOKEN)


@pytest.mark.parametrize("name", ["authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl"])
async def test_a_renamed_hidden_input_is_named_before_a_password_is_sent(portal, log_in, name):
    """
    The form is another one then, and gets no password.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, f"renamed:{name}")

    assert await failing(log_in, ResponseError) == f"login, step 3 (the login form): missing input {name}"
    assert list_requests(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize"]


@pytest.mark.parametrize("fault", ["foreign_action", "get_form"])
async def test_the_password_goes_nowhere_else(portal, log_in, fault):
    """
    A form that posts to another host, or that would put the password in an address, gets none.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, fault)

    assert "step 3 (the login form): form posts to another origin" in await failing(log_in, ResponseError)
    assert list_requests(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize"]


@pytest.mark.parametrize(
    ("where", "fault", "error_class", "message"),
    [
        ("/portal", "status:503", UnreachableError, "login, step 1 (the portal): GET /portal returned status 503"),
        ("/portal", "hang", UnreachableError, "login, step 1 (the portal): GET /portal timed out after 0.2 s"),
        (AUTHORIZE, "status:503", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize returned"),
        (AUTHORIZE, "status:400", ResponseError, "login, step 2 (the login page): status 400: are client_id and redirect_uri"),
        (AUTHORIZE, "hang", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize timed out"),
        (AUTHORIZE, "reset", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize failed"),
        (AUTHORIZE, "retry:60", RateLimitError, "login, step 2 (the login page): GET /identity/oauth2/authorize returned"),
        (AUTHORIZE, "html", UnreachableError, "login, step 3 (the login form): returned a maintenance page"),
        (AUTHORIZE, "empty", ResponseError, "login, step 3 (the login form): no login form found"),
        (AUTHORIZE, "garbage", ResponseError, "login, step 3 (the login form): no login form found"),
        (AUTHORIZE, "post:status:503", UnreachableError, "login, step 4 (the password): POST /identity/oauth2/authorize"),
        (AUTHORIZE, "post:hang", UnreachableError, "login, step 4 (the password): POST /identity/oauth2/authorize timed out"),
        (AUTHORIZE, "post:status:403", LoginError, "login, step 4 (the password): an unknown page"),
        (TOKEN, "status:400", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token returned status 400"),
        (TOKEN, "status:503", UnreachableError, "login, step 5 (the token): POST /identity/oauth2/token returned"),
        (TOKEN, "html", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token returned HTML"),
        (TOKEN, "empty", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token returned invalid data"),
        (TOKEN, "drop:access_token", ResponseError, "login, step 5 (the token): the response has changed: access_token"),
        (TOKEN, 'set:expires_in="soon"', ResponseError, "login, step 5 (the token): the response has changed: expires_in"),
        (TOKEN, "set:expires_in=-1", ResponseError, "login, step 5 (the token): the response has changed: expires_in"),
    ],
)
async def test_each_failure_names_its_step(portal, log_in, where, fault, error_class, message):
    """
    The error names the step; the login is not retried.
    """
    simulation, _ = portal
    simulation.faults.add(where, fault)

    assert (await failing(log_in, error_class, patience=0.2)).startswith(message)
    assert simulation.login_count <= 1
    assert not list_requests(simulation, "/api/")


async def test_the_wait_that_the_provider_asks_for_is_kept(portal, log_in):
    """
    Naming the step does not lose it.
    """
    simulation, _ = portal
    simulation.faults.add(AUTHORIZE, "retry:90")

    with pytest.raises(RateLimitError) as caught:
        await log_in()

    assert caught.value.retry_after == timedelta(seconds=90)


@pytest.mark.parametrize("key", ["client_id", "redirect_uri", "scope"])
async def test_a_client_that_is_not_known_is_no_refusal_of_the_password(portal, log_in, key):
    """
    The provider responds with an error before there is a form.
    """
    simulation, _ = portal

    assert "step 2 (the login page): status 400" in await failing(log_in, ResponseError, **{key: "other"})
    assert simulation.login_count == 0


@pytest.mark.parametrize("page", ["wrong_password", "locked"])
@pytest.mark.parametrize("language", ["nl", "fr", "en"])
def test_the_footer_of_the_login_page_misleads_nobody(page, language):
    """
    The form that comes back is a refusal, though its footer links to terms of use and to a new password.
    """
    html = f"<p>{PAGE_TEXTS[page][language]}</p><form method=post><input type=password name=j_password></form>"
    error = _build_refusal(
        parse_page(f"{html}<a>Terms of Use</a><a>Nieuw wachtwoord</a><a>Onderhoud</a>", "https://idp.example/")
    )

    assert isinstance(error, LoginError)
    assert ("locked" in str(error)) is (page == "locked")
