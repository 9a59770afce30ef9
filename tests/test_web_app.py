"""The web application over real HTTP: the page in both forms, health, and what lifecycle calls may do."""

import asyncio
import gzip
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from exporter.clock import WallClock
from exporter.errors import ConfigError, LoginError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.metrics.exposition import OPENMETRICS, TEXT
from exporter.models import Commodity, Register, Unit, UsagePoint
from exporter.poller_group import PollerGroup
from exporter.web.app import MAX_WAITING_RENDERS, RenderQueue, WebContext, make_app
from exporter.web.listen import ListenAddress, listen
from exporter.web.status.page import StatusPage
from tests.conftest import NOW
from tests.scripted_portal import SCRIPTS, VisitScript, build_index, build_portal, hang_forever


class Served:
    """A running web application, and a client to it."""

    def __init__(self, url: str, pollers: PollerGroup, client: aiohttp.ClientSession) -> None:
        self.url, self.pollers, self.client = url, pollers, client

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, self.url + path, headers=wanted) as answer:
            return answer, await answer.read()


async def broken() -> None:
    raise ConfigError("config.yaml:3: accounts[0].every: must be 1m to 1d")


async def good() -> None:
    return None


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Served]]:
    async with AsyncExitStack() as stack:
        ledger = Ledger(tmp_path)
        stack.callback(ledger.close)
        stack.callback(SCRIPTS.clear)

        async def make(reload=None, path: str = "/metrics", ready: bool = True, **scripts: VisitScript) -> Served:
            SCRIPTS.update(scripts)
            clock = WallClock()
            page = MetricsPage(ledger, clock.now, "1.2.3")
            pollers = PollerGroup(ledger, page, clock)
            stack.push_async_callback(pollers.stop)
            status = StatusPage(page, pollers, clock.now, ledger.snapshot, metrics_path=path)
            context = WebContext(page, pollers, reload, path, status_page=status)
            (address,) = await listen(make_app(context), [ListenAddress("127.0.0.1", 0)], stack)
            if ready:
                await pollers.reconcile(tuple(build_portal(name=name) for name in scripts))
                context.ready.set()
            client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            return Served(f"http://{address}", pollers, client)

        yield make


async def until(served: Served, account: str) -> None:
    async with asyncio.timeout(10):
        while served.pollers.get(account).state.up is None:  # noqa: ASYNC110  # what is waited for is the product's own doing
            await asyncio.sleep(0.01)


async def test_the_page_in_both_forms(serve):
    """
    Text by default, OpenMetrics when it is preferred, gzip when asked; HEAD has the same head and no body.
    """
    served = await serve(home=VisitScript([[build_index(104.25, NOW)]]))
    await until(served, "home")
    text, body = await served.get("/metrics", Accept_Encoding="identity")
    rich, _ = await served.get("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    zipped, packed = await served.get("/metrics", Accept_Encoding="gzip, deflate")
    head, nothing = await served.get("/metrics", "HEAD", Accept_Encoding="identity")

    assert (text.status, text.headers["Content-Type"], text.headers["Vary"]) == (200, TEXT, "Accept, Accept-Encoding")
    assert b'utility_consumption_index_m3{account="home",register="total",usage_point="B-1"} 104.25' in body
    assert rich.headers["Content-Type"] == OPENMETRICS
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert b"utility_consumption_index_m3" in gzip.decompress(packed)
    assert (head.status, nothing, head.headers["Content-Type"]) == (200, b"", TEXT)


async def test_a_large_page_comes_in_pieces(serve):
    """
    A page of many usage points is whole, as long as its head says, plain and gzip, and HEAD says as long.
    """
    points = [Register(UsagePoint(f"P{number}", Commodity.WATER), Unit.M3) for number in range(1200)]
    served = await serve(home=VisitScript([[build_index(number / 4, NOW, point) for number, point in enumerate(points)]]))
    await until(served, "home")
    plain, body = await served.get("/metrics", Accept_Encoding="identity")
    zipped, packed = await served.get("/metrics", Accept_Encoding="gzip")
    head, nothing = await served.get("/metrics", "HEAD", Accept_Encoding="gzip")
    unpacked = gzip.decompress(packed)

    assert len(body) == int(plain.headers["Content-Length"]) > 300_000
    assert len(packed) == int(zipped.headers["Content-Length"])
    assert (nothing, abs(int(head.headers["Content-Length"]) - len(packed)) < 1000) == (b"", True)
    for page in (body, unpacked):
        assert page.count(b"utility_consumption_index_m3{") == page.count(b"utility_reading_age_seconds{") == 1200


async def test_who_hangs_up_harms_nobody(serve, caplog):
    """
    A client that goes away in the middle of a large page leaves no error behind.
    """
    points = [Register(UsagePoint(f"P{number}", Commodity.WATER), Unit.M3, name="r" * 190) for number in range(12000)]
    served = await serve(home=VisitScript([[build_index(1.0, NOW, point) for point in points]]))
    await until(served, "home")
    for _ in range(3):
        async with served.client.get(served.url + "/metrics", headers={"Accept-Encoding": "identity"}) as answer:
            assert await answer.content.readexactly(1000)
            answer.close()
    healthy, _ = await served.get("/-/healthy")

    assert healthy.status == 200
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("accept", ["nonsense", "application/openmetrics-text;version=abc", "a/b;q=x", "*", ";"])
async def test_a_strange_accept_gets_text(serve, accept):
    """
    No header makes the page an error.
    """
    answer, _ = await (await serve()).get("/metrics", Accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (200, TEXT)


@pytest.mark.parametrize(
    ("coding", "zipped"), [("gzip;q=0", False), ("*", True), ("br", False), ("", False), ("GZIP;q=0.5", True)]
)
async def test_gzip_only_when_accepted(serve, coding, zipped):
    """
    A client that refuses gzip gets none.
    """
    answer, _ = await (await serve()).get("/metrics", Accept_Encoding=coding)

    assert ("Content-Encoding" in answer.headers) is zipped


async def test_who_hangs_up_leaves_no_work_behind(serve, monkeypatch):
    """
    Pages are rendered one at a time; of clients that hang up while they wait nothing is rendered, and where many wait the next
    are sent away.
    """
    queue, renders, is_rendering, may_end = RenderQueue(), [], threading.Lock(), threading.Event()
    monkeypatch.setattr("exporter.web.app.RenderQueue", lambda: queue)
    served = await serve()

    def render(self: StatusPage, *_: object, **__: object) -> bytes:
        renders.append(is_rendering.acquire(blocking=False))
        assert may_end.wait(30)
        is_rendering.release()
        return b"page"

    async def wait_for(count: int) -> None:
        async with asyncio.timeout(30):
            while queue._waiting != count:  # noqa: ASYNC110  # the queue has no event for it
                await asyncio.sleep(0)

    monkeypatch.setattr(StatusPage, "render", render)
    leaving = [asyncio.ensure_future(served.get("/")) for _ in range(20)]
    await wait_for(19)
    for task in leaving:
        task.cancel()
    await wait_for(0)
    staying = [asyncio.ensure_future(served.get("/")) for _ in range(MAX_WAITING_RENDERS + 5)]
    await wait_for(MAX_WAITING_RENDERS)
    async with asyncio.timeout(30):
        refused = [(await answer)[0].status for answer in itertools.islice(asyncio.as_completed(staying), 5)]
    may_end.set()
    answers = await asyncio.gather(*staying)

    assert refused == [503] * 5
    assert [answer.status for answer, _ in answers].count(200) == MAX_WAITING_RENDERS
    assert renders == [True] * (1 + MAX_WAITING_RENDERS)


async def test_scrapes_go_on_while_a_portal_hangs(serve):
    """
    With every portal hanging the page comes at once, two at a time, with the accounts' health on it.
    """
    served = await serve(hung=VisitScript([hang_forever]))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(served.get("/metrics", Accept_Encoding="identity") for _ in range(2)))

    assert [answer.status for answer, _ in answers] == [200, 200]
    assert all(b'utility_visits_total{account="hung"' in body for _, body in answers)


async def test_no_page_with_a_part_of_the_accounts(serve):
    """
    Before all accounts are on the page a scrape is answered 503, whatever is on it by then.
    """
    young = await serve(ready=False)
    await young.pollers.reconcile((build_portal(name="first"),))
    answer, body = await young.get("/metrics")

    assert (answer.status, body) == (503, b"Not ready yet.\n")


async def test_health_and_readiness(serve):
    """
    Healthy while it serves; ready when the configuration is loaded and the page can be shown.
    """
    young, served = await serve(ready=False), await serve(bad=VisitScript([ZeroDivisionError()] * 9))

    assert [(await young.get(path))[0].status for path in ("/-/healthy", "/-/ready")] == [200, 503]
    assert [(await served.get(path))[0].status for path in ("/-/healthy", "/-/ready")] == [200, 200]


async def test_the_landing_page_links_the_metrics(serve):
    """
    The page for people names the path of the metrics, escaped.
    """
    _, body = await (await serve(path="/a&b")).get("/", Accept_Encoding="identity")

    assert b'href="a&amp;b"' in body


async def test_another_telemetry_path(serve):
    """
    The metrics are where the flag says, and only there.
    """
    served = await serve(path="/power")

    assert [(await served.get(path))[0].status for path in ("/power", "/metrics")] == [200, 404]


async def test_lifecycle_calls_are_off_unless_enabled(serve):
    """
    Without --web.enable-lifecycle a reload or a visit is refused, with the flag's name.
    """
    served = await serve(home=VisitScript())
    for path in ("/-/reload", "/-/visit?account=home"):
        answer, body = await served.get(path, "POST")
        assert answer.status == 403
        assert b"--web.enable-lifecycle" in body


async def test_reload(serve):
    """
    POST and PUT reload; GET is not allowed; a fault is 500 with its place.
    """
    fine, faulty = await serve(reload=good), await serve(reload=broken)
    answer, body = await faulty.get("/-/reload", "POST")

    assert [(await fine.get("/-/reload", method))[0].status for method in ("POST", "PUT", "GET")] == [200, 200, 405]
    assert answer.status == 500
    assert b"accounts[0].every" in body


async def test_a_visit_by_a_persons_word(serve):
    """
    202 and a visit soon; 404 for an unknown account; 429 within a minute of the last one; 409 while suspended; POST only.
    """
    served = await serve(reload=good, home=VisitScript(), locked=VisitScript([LoginError("no")]))
    await until(served, "home")
    await until(served, "locked")
    soon, _ = await served.get("/-/visit?account=home", "POST")
    unknown, _ = await served.get("/-/visit?account=nobody", "POST")
    suspended, _ = await served.get("/-/visit?account=locked", "POST")
    part = served.pollers.get("home")
    part.health.state = replace(part.health.state, last_visit=None)

    assert soon.status == 429
    assert 1 <= int(soon.headers["Retry-After"]) <= 60
    assert (unknown.status, suspended.status) == (404, 409)
    assert (await served.get("/-/visit?account=home", "GET"))[0].status == 405
    before = len(SCRIPTS["home"].visits)
    assert (await served.get("/-/visit?account=home", "POST"))[0].status == 202
    async with asyncio.timeout(10):
        while len(SCRIPTS["home"].visits) == before:  # noqa: ASYNC110  # what is waited for is the product's own doing
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10230", ListenAddress("", 10230)),
        ("localhost:0", ListenAddress("localhost", 0)),
        ("[::1]:9", ListenAddress("::1", 9)),
        ("127.0.0.1:10230", ListenAddress("127.0.0.1", 10230)),
    ],
)
def test_listen_addresses(text, address):
    """
    Addresses are read as Prometheus people write them, and written back the same.
    """
    assert ListenAddress.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["10230", "localhost", "::1:10230", ":x", ":99999", ""])
def test_what_is_no_address(text):
    """
    What is none is refused with the form it should have.
    """
    with pytest.raises(ValueError, match="HOST:PORT"):
        ListenAddress.parse(text)


async def test_a_port_in_use_is_named(serve):
    """
    When the port is in use, the error names the address.
    """
    served = await serve()
    address = ListenAddress.parse(served.url.removeprefix("http://"))
    async with AsyncExitStack() as stack:
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            await listen(make_app(WebContext(None, None)), [address], stack)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_lifecycle_calls_from_another_sites_page_are_refused(serve, headers, status):
    """
    A page that somebody's browser shows cannot make the exporter reload or visit; a program sends no such header.
    """
    served = await serve(reload=good, home=VisitScript([[]]))
    reload, _ = await served.get("/-/reload", "POST", **headers)
    visit, _ = await served.get("/-/visit?account=nobody", "POST", **headers)

    assert (reload.status, visit.status) == (status, 403 if status == 403 else 404)
