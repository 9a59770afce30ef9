"""Water-Link's login: five steps, one password at most, and a page that comes back tells why."""

import re
from datetime import timedelta

import pytest

from exporter.demo.base import running
from exporter.demo.water_link import WaterLinkSimulation
from exporter.demo.water_link.identity import SAID
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.forms import read_page
from exporter.model import Index
from exporter.portals.water_link import WaterLink
from exporter.portals.water_link.login import _refusal
from tests.conftest import EVERYTHING

SECRETS = re.compile(r"bewoner|example\.com|geheim|20441[78]|Verzonnenlaan|[0-9a-f]{32}|[\w-]{40}")
AUTHORIZE, TOKEN = "/oauth2/authorize", "/oauth2/token"


@pytest.fixture
async def portal(clock):
    simulation = WaterLinkSimulation(clock)
    async with running(simulation) as url:
        yield simulation, simulation.accounts(url)[0]


@pytest.fixture
def log_in(portal, visit):
    """Visit the simulation, with keys that differ if need be; a visit is a login here."""

    async def go(patience: float = 5, **keys):
        async with visit(timeout=timedelta(seconds=patience)) as session:
            return [told async for told in WaterLink(**portal[1] | keys).fetch(session, EVERYTHING)]

    return go


def asked(simulation, path=""):
    return [f"{seen.method} {seen.path}" for seen in simulation.seen if path in seen.path]


async def failing(log_in, kind: type[PortalError], **keys) -> str:
    """Give the message of a login that fails, and see that it holds no secret."""
    with pytest.raises(kind) as caught:
        await log_in(**keys)
    assert type(caught.value) is kind
    assert not SECRETS.search(str(caught.value))
    assert not SECRETS.search(str(caught.value.__cause__))
    return str(caught.value)


async def test_five_steps(portal, log_in):
    """
    The portal, the login page, the form, the password, the token: the strict provider takes each, and counts one password.
    """
    simulation, _ = portal

    assert any(isinstance(told, Index) for told in await log_in())
    assert simulation.logins == 1
    assert asked(simulation)[:4] == [
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
    await log_in()
    clock.move(minutes=58)
    await log_in()

    assert simulation.logins == 1

    clock.move(minutes=1)
    await log_in()

    assert simulation.logins == 2


async def test_a_token_without_a_stated_end_lives_an_hour(portal, log_in, clock):
    """
    That is the product's default.
    """
    simulation, _ = portal
    simulation.faults.set(TOKEN, "no_expiry")
    await log_in()
    clock.move(minutes=58)
    await log_in()

    assert simulation.logins == 1


async def test_each_login_begins_with_an_empty_cookie_jar(portal, visit, clock):
    """
    Within one session the provider's own cookie would skip the form; a fresh jar brings the form again.
    """
    simulation, entry = portal
    async with visit() as session:
        for _ in range(2):
            assert [told async for told in WaterLink(**entry).fetch(session, EVERYTHING)]
            clock.move(hours=2)

    assert asked(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize", "POST /identity/oauth2/authorize"] * 2


async def test_a_live_session_that_skips_the_form_is_understood(portal, log_in):
    """
    The login page is then a redirect with the code: no password is sent.
    """
    simulation, _ = portal
    simulation.faults.set(AUTHORIZE, "live_session")

    assert any(isinstance(told, Index) for told in await log_in())
    assert simulation.logins == 0


async def test_a_token_that_is_refused_costs_one_new_login(portal, log_in, clock):
    """
    A token that ended before its time is renewed once, and the call repeated once.
    """
    simulation, _ = portal
    await log_in()
    clock.move(minutes=10)
    simulation.expire()

    assert any(isinstance(told, Index) for told in await log_in())
    assert simulation.logins == 2


async def test_a_fresh_token_that_is_refused_costs_no_further_login(portal, log_in):
    """
    A portal that takes no token at all is not logged in to again and again.
    """
    simulation, _ = portal
    simulation.faults.set("/api/", "status:401")

    assert "refuses the token that a new login has just given" in await failing(log_in, ResponseError)
    assert simulation.logins == 1
    assert len(asked(simulation, "/api/")) == 1


async def test_a_wrong_password_costs_exactly_one_try(portal, log_in):
    """
    It is a LoginError, upon which nobody tries again; the step is named.
    """
    simulation, _ = portal

    assert await failing(log_in, LoginError, password="geheim-wrong") == (
        "login, step 4 (the password): user name or password is refused"
    )
    assert simulation.logins == 1
    assert not asked(simulation, TOKEN)


@pytest.mark.parametrize("language", ["nl", "fr", "en"])
async def test_a_locked_account_says_so(portal, log_in, clock, language):
    """
    After five wrong passwords the right one is refused for an hour.
    """
    simulation, _ = portal
    simulation.identity.language = language
    for _ in range(5):
        await failing(log_in, LoginError, password="geheim-wrong")

    assert "step 4 (the password): the account is locked" in await failing(log_in, LoginError)

    clock.move(hours=1)

    assert await log_in()


@pytest.mark.parametrize("language", ["nl", "fr", "en"])
@pytest.mark.parametrize(
    ("page", "kind", "said"),
    [
        ("wrong_password", LoginError, "user name or password is refused"),
        ("locked", LoginError, "the account is locked"),
        ("second_factor", LoginError, "a second factor is asked for"),
        ("terms", LoginError, "new terms are to be accepted"),
        ("new_password", LoginError, "a new password is asked for"),
        ("captcha", LoginError, "a captcha is asked for"),
        ("maintenance", UnreachableError, "a maintenance page"),
        ("unknown_page", LoginError, "a page that we do not know came back"),
    ],
)
async def test_the_page_that_comes_back_tells_why(portal, log_in, page, language, kind, said):
    """
    In any of the three languages; a page that we do not know is a refusal too, for each retry may cost a try.
    """
    simulation, _ = portal
    simulation.identity.language = language
    simulation.faults.set(AUTHORIZE, f"post:{page}")

    assert (await failing(log_in, kind)).startswith(f"login, step 4 (the password): {said}")
    assert simulation.logins == 1


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("wrong_state", ResponseError, "state is not the one that was sent"),
        ("refused_code", LoginError, "the login was refused"),
        ("later", UnreachableError, "not now"),
        ("no_code", LoginError, "there is none"),
        ("stray", LoginError, "sent on to another address than redirect_uri"),
    ],
)
async def test_a_redirect_is_read_with_care(portal, log_in, fault, kind, said):
    """
    The state is compared, the address too, and no token is asked for with a code that is not ours.
    """
    simulation, _ = portal
    simulation.faults.set(AUTHORIZE, f"post:{fault}")

    assert (await failing(log_in, kind)).startswith(f"login, step 4 (the code): {said}")
    assert not asked(simulation, TOKEN)


@pytest.mark.parametrize("name", ["authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl"])
async def test_a_renamed_hidden_input_is_named_before_a_password_is_sent(portal, log_in, name):
    """
    The form is another one then, and gets no password.
    """
    simulation, _ = portal
    simulation.faults.set(AUTHORIZE, f"renamed:{name}")

    assert await failing(log_in, ResponseError) == f"login, step 3 (the login form): it has no input {name}"
    assert asked(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize"]


@pytest.mark.parametrize("fault", ["foreign_action", "get_form"])
async def test_the_password_goes_nowhere_else(portal, log_in, fault):
    """
    A form that posts to another host, or that would put the password in an address, gets none.
    """
    simulation, _ = portal
    simulation.faults.set(AUTHORIZE, fault)

    assert "step 3 (the login form): it would send the password elsewhere" in await failing(log_in, ResponseError)
    assert asked(simulation, AUTHORIZE) == ["GET /identity/oauth2/authorize"]


@pytest.mark.parametrize(
    ("where", "fault", "kind", "said"),
    [
        ("/portal", "status:503", UnreachableError, "login, step 1 (the portal): GET /portal answered with status 503"),
        ("/portal", "hang", UnreachableError, "login, step 1 (the portal): GET /portal did not answer within 0.2 s"),
        (AUTHORIZE, "status:503", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize answered"),
        (AUTHORIZE, "status:400", ResponseError, "login, step 2 (the login page): status 400: are client_id and redirect_uri"),
        (AUTHORIZE, "hang", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize did not"),
        (AUTHORIZE, "reset", UnreachableError, "login, step 2 (the login page): GET /identity/oauth2/authorize failed"),
        (AUTHORIZE, "retry:60", RateLimitError, "login, step 2 (the login page): GET /identity/oauth2/authorize asks us"),
        (AUTHORIZE, "html", UnreachableError, "login, step 3 (the login form): a maintenance page"),
        (AUTHORIZE, "empty", ResponseError, "login, step 3 (the login form): there is none"),
        (AUTHORIZE, "garbage", ResponseError, "login, step 3 (the login form): there is none"),
        (AUTHORIZE, "post:status:503", UnreachableError, "login, step 4 (the password): POST /identity/oauth2/authorize"),
        (AUTHORIZE, "post:hang", UnreachableError, "login, step 4 (the password): POST /identity/oauth2/authorize did not"),
        (AUTHORIZE, "post:status:403", LoginError, "login, step 4 (the password): a page that we do not know"),
        (TOKEN, "status:400", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token answered with status 400"),
        (TOKEN, "status:503", UnreachableError, "login, step 5 (the token): POST /identity/oauth2/token answered"),
        (TOKEN, "html", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token answered with a web page"),
        (TOKEN, "empty", ResponseError, "login, step 5 (the token): POST /identity/oauth2/token answered with no JSON"),
        (TOKEN, "drop:access_token", ResponseError, "login, step 5 (the token): the answer has changed: access_token"),
        (TOKEN, 'set:expires_in="soon"', ResponseError, "login, step 5 (the token): the answer has changed: expires_in"),
        (TOKEN, "set:expires_in=-1", ResponseError, "login, step 5 (the token): the answer has changed: expires_in"),
    ],
)
async def test_each_failure_names_its_step(portal, log_in, where, fault, kind, said):
    """
    And is the error that says what to do; the login is not tried twice.
    """
    simulation, _ = portal
    simulation.faults.set(where, fault)

    assert (await failing(log_in, kind, patience=0.2)).startswith(said)
    assert simulation.logins <= 1
    assert not asked(simulation, "/api/")


async def test_the_wait_that_the_provider_asks_for_is_kept(portal, log_in):
    """
    Naming the step does not lose it.
    """
    simulation, _ = portal
    simulation.faults.set(AUTHORIZE, "retry:90")

    with pytest.raises(RateLimitError) as caught:
        await log_in()

    assert caught.value.wait == timedelta(seconds=90)


@pytest.mark.parametrize("key", ["client_id", "redirect_uri", "scope"])
async def test_a_client_that_is_not_known_is_no_refusal_of_the_password(portal, log_in, key):
    """
    The provider says so before there is a form.
    """
    simulation, _ = portal

    assert "step 2 (the login page): status 400" in await failing(log_in, ResponseError, **{key: "other"})
    assert simulation.logins == 0


@pytest.mark.parametrize("page", ["wrong_password", "locked"])
@pytest.mark.parametrize("language", ["nl", "fr", "en"])
def test_the_footer_of_the_login_page_misleads_nobody(page, language):
    """
    The form that comes back is a refusal, though its footer links to terms of use and to a new password.
    """
    html = f"<p>{SAID[page][language]}</p><form method=post><input type=password name=j_password></form>"
    error = _refusal(read_page(f"{html}<a>Terms of Use</a><a>Nieuw wachtwoord</a><a>Onderhoud</a>", "https://idp.example/"))

    assert isinstance(error, LoginError)
    assert ("locked" in str(error)) is (page == "locked")
