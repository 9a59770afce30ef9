"""The configuration read again while serving, by signal and by HTTP, and a web configuration before all of it."""

import asyncio
import base64
import json
import os
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from exporter.app import Exporter, ServeOptions, Serving
from exporter.config import loader
from exporter.errors import LoginError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.web.listen import ListenAddress
from tests.certificates import CertificateFolder, write_web_config
from tests.conftest import NOW
from tests.scripted_portal import SCRIPTS, ScriptedPortal, VisitScript, build_index, hang_forever
from tests.web_configs import PASSWORD_HASH, TLS, build_user

ANYWHERE = ListenAddress("127.0.0.1", 0)
PATIENCE = 30.0


@dataclass
class Running:
    """An exporter, its configuration file, and a client to it."""

    exporter: Exporter
    file: Path
    addresses: list[ListenAddress]
    client: aiohttp.ClientSession
    metrics: MetricsPage | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def write(self, *names: str, **keys: Any) -> None:
        self.file.write_text(json.dumps({"accounts": [{"name": name, "portal": "brook", **keys} for name in names], **self.more}))

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        async with self.client.request(method, f"http://{self.addresses[0]}{path}", **more) as answer:
            return answer.status, await answer.text()

    async def reload(self) -> tuple[int, str]:
        return await self.ask("POST", "/-/reload")

    async def page(self) -> str:
        return (await self.ask("GET", "/metrics"))[1]


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": ScriptedPortal})
    tasks: list[tuple[Exporter, asyncio.Task[None]]] = []
    async with aiohttp.ClientSession() as client:

        async def make(*names: str, addresses: tuple[ListenAddress, ...] = (ANYWHERE,), **more: Any) -> Running:
            made = Running(Exporter(ServeOptions()), tmp_path / "config.yaml", [], client)
            made.write(*names)
            more.setdefault("watch_config", False)
            options = ServeOptions(made.file, tmp_path / "data", addresses, enable_lifecycle=True, **more)
            made.exporter = Exporter(options)
            started = asyncio.Event()

            def on_ready(serving: Serving) -> None:
                made.addresses, made.metrics = list(serving.addresses), serving.page
                started.set()

            tasks.append((made.exporter, asyncio.create_task(made.exporter.run(on_ready))))
            await asyncio.wait(
                [tasks[-1][1], asyncio.ensure_future(started.wait())], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
            return made

        yield make
        for exporter, _ in tasks:
            exporter.stop()
        await asyncio.gather(*(task for _, task in tasks))
        SCRIPTS.clear()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  # what is waited for is the product's own doing
            await asyncio.sleep(0.01)


def visits(name: str) -> int:
    return len(SCRIPTS[name].visits)


async def test_a_reload_touches_only_what_changed(start):
    """
    Visits of unchanged accounts go on untouched, removed accounts end and leave the page, new ones are visited.
    """
    SCRIPTS.update({name: VisitScript([hang_forever] * 3) for name in ("stays", "goes", "comes")})
    running = await start("stays", "goes")
    await until(lambda: visits("stays") == visits("goes") == 1)
    running.write("stays", "comes")

    assert await running.reload() == (200, "Reloaded.\n")

    await until(lambda: visits("comes") == 1)
    page = await running.page()
    assert visits("stays") == 1
    assert 'utility_visits_total{account="goes"' not in page
    assert "utility_exporter_config_last_reload_successful 1.0" in page


async def test_a_changed_account_starts_anew(start):
    """
    An account with another key is taken down and up again, with its readings still on the page.
    """
    SCRIPTS["home"] = VisitScript([[build_index(5.0, NOW)], hang_forever])
    running = await start("home")
    await until(lambda: running.metrics.accounts["home"].health.state.up is True)
    running.write("home", every="2h")
    await running.reload()

    page = await running.page()
    assert 'utility_visit_interval_seconds{account="home",portal="brook"} 7200.0' in page
    assert 'utility_consumption_index_m3{account="home",register="total",usage_point="B-1"} 5.0' in page


async def test_who_hangs_up_does_not_break_a_reload_off(start, monkeypatch):
    """
    A reload goes on to its end when the one who asked has gone: no account is left in between.
    """
    SCRIPTS["home"] = VisitScript([hang_forever] * 9)
    running = await start("home")
    await until(lambda: visits("home") == 1)
    running.write("home", every="2h")
    opening, going_on, plain = threading.Event(), threading.Event(), Ledger.open_account

    def slow(*arguments: Any, **keys: Any) -> Any:
        opening.set()
        going_on.wait(PATIENCE)
        return plain(*arguments, **keys)

    monkeypatch.setattr(Ledger, "open_account", slow)
    asked = asyncio.create_task(running.reload())
    await until(opening.is_set)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await asyncio.sleep(0.1)  # the server notices
    going_on.set()

    await until(lambda: b'utility_visit_interval_seconds{account="home",portal="brook"} 7200.0' in running.metrics.render())


async def test_a_changed_login_lifts_a_suspension(start):
    """
    A refused login is not tried again by a reload, and at once when its password has changed.
    """
    SCRIPTS["home"] = VisitScript([LoginError("wrong password"), [build_index(5.0, NOW)]])
    running = await start("home")
    await until(lambda: running.metrics.accounts["home"].health.state.reason == "login")
    running.write("home", every="2h")
    await running.reload()
    still = (visits("home"), await running.ask("POST", "/-/visit?account=home"))
    running.write("home", password="another")
    await running.reload()
    await until(lambda: visits("home") == 2)

    assert still[0] == 1
    assert still[1][0] == 409
    await until(lambda: running.metrics.accounts["home"].health.state.up is True)


@pytest.mark.parametrize("trigger", ["http", "signal"])
async def test_a_broken_file_changes_nothing(start, caplog, trigger):
    """
    A broken configuration is said in the answer, the log, the metric and on the page; the accounts run on.
    """
    SCRIPTS["home"] = VisitScript([hang_forever])
    running = await start("home")
    await until(lambda: visits("home") == 1)
    before = (await running.page()).partition("last_reload_success_timestamp_seconds ")[2].partition("\n")[0]
    running.write("home", "home")
    fault = f"{running.file}:1: accounts[1].name: is the name of accounts[0] already"
    if trigger == "http":
        status, text = await running.reload()
        assert (status, text) == (500, f"{fault}\nReload failed, keeping the previous configuration.\n")
    else:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: not running.metrics.reload_status.is_successful)

    page = await running.page()
    assert "utility_exporter_config_last_reload_successful 0.0" in page
    assert f"last_reload_success_timestamp_seconds {before}\n" in page
    assert [record.message for record in caplog.records if "keeping the previous" in record.message] == [
        f"reload failed, keeping the previous configuration: {fault}"
    ]
    assert "Reload failed, keeping the previous configuration" in (await running.ask("GET", "/"))[1]
    assert visits("home") == 1

    running.write("home")
    assert (await running.reload())[0] == 200
    assert "utility_exporter_config_last_reload_successful 1.0" in await running.page()
    assert visits("home") == 1


async def test_a_changed_file_is_followed(start, monkeypatch, caplog):
    """
    A change of the configuration is seen without a signal; a broken file changes nothing, is logged once, and is followed again
    when it is fixed. So is the file of a secret.
    """
    monkeypatch.setattr("exporter.reload.FILE_CHECK_SECONDS", 0.02)
    SCRIPTS.update({name: VisitScript([hang_forever] * 3) for name in ("home", "flat")})
    running = await start("home", watch_config=True)
    page = running.metrics
    running.write("home", "home")
    await until(lambda: not page.reload_status.is_successful)
    await asyncio.sleep(0.2)
    running.write("home", "flat")
    await until(lambda: page.reload_status.is_successful and "flat" in page.accounts)
    secret = running.file.with_name("secret")
    secret.write_text("one")
    running.write("home", password_file=str(secret))
    await until(lambda: "flat" not in page.accounts)
    before = page.reload_status.last_success
    secret.write_text("another")
    await until(lambda: page.reload_status.last_success != before)

    assert sum("keeping the previous" in record.message for record in caplog.records) == 1


async def test_a_file_that_is_named_and_wrong_is_followed(start, monkeypatch):
    """
    A configuration that fails because of a file that it names is read again when that file is there, filled, or one.
    """
    monkeypatch.setattr("exporter.reload.FILE_CHECK_SECONDS", 0.02)
    SCRIPTS["home"] = VisitScript([hang_forever] * 9)
    running = await start("home", watch_config=True)
    page = running.metrics
    breaks: dict[str, Callable[[Path], Any]] = {
        "missing": lambda _: None,
        "empty": Path.touch,
        "binary": lambda file: file.write_bytes(b"\xff"),
        "folder": Path.mkdir,
        "missing folder": lambda file: file.parent.rmdir(),
        "ca_file": Path.mkdir,  # one that is missing, or without certificates, is met by the requests
    }
    for name, break_file in breaks.items():
        file = running.file.parent / name / "secret"
        file.parent.mkdir()
        break_file(file)
        receiver = {"url": "http://127.0.0.1:9/", "ca_file": str(file)}
        running.more = {"history": {"remote_write": [receiver]}} if name == "ca_file" else {}
        running.write("home", **({} if name == "ca_file" else {"password_file": str(file)}))
        await until(lambda: not page.reload_status.is_successful)
        file.parent.mkdir(exist_ok=True)
        if file.is_dir():
            file.rmdir()
        file.write_text("secret")
        await until(lambda: page.reload_status.is_successful)


async def test_what_a_web_configuration_held_up_is_read_again(start, monkeypatch, certificates: CertificateFolder):
    """
    A reload that fails because of the web configuration is done when that is mended, though the configuration is as it was.
    """
    monkeypatch.setattr("exporter.reload.FILE_CHECK_SECONDS", 0.02)
    SCRIPTS.update({name: VisitScript([hang_forever] * 2) for name in ("home", "other")})
    web_file = write_web_config(certificates, "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    running = await start("home", web_config_file=web_file, watch_config=True)
    write_web_config(certificates, build_user("secret"))
    running.write("home", "other")
    await until(lambda: not running.metrics.reload_status.is_successful)
    write_web_config(certificates, build_user(PASSWORD_HASH))

    await until(lambda: "other" in running.metrics.accounts)


async def test_a_reload_paints_the_faces(start):
    """
    The colour of the faces follows the file.
    """
    SCRIPTS["home"] = VisitScript([hang_forever])
    running = await start("home")
    running.more = {"web": {"colour": "204a87"}}
    running.write("home")
    before = (await running.ask("GET", "/static/status.css"))[1]
    await running.reload()

    assert "--meter: #c8d42a;" in before
    assert "--meter: #204a87;" in (await running.ask("GET", "/static/status.css"))[1]


async def test_a_reload_reads_the_web_configuration_too(start, certificates: CertificateFolder):
    """
    A reload takes up new users at once; a broken web configuration fails the whole reload and changes neither file.
    """
    SCRIPTS.update({name: VisitScript([hang_forever] * 2) for name in ("home", "other")})
    web_file = write_web_config(certificates, "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    running = await start("home", web_config_file=web_file)
    write_web_config(certificates, build_user("secret"))
    running.write("home", "other")
    status, text = await running.reload()

    assert (status, text.splitlines()[0]) == (
        500,
        f"{web_file}:2: basic_auth_users: is not a bcrypt hash; create one with: htpasswd -nBC 10 NAME",
    )
    assert sorted(running.metrics.accounts) == ["home"]

    write_web_config(certificates, build_user(PASSWORD_HASH))
    assert (await running.reload())[0] == 200
    assert (await running.reload())[0] == 401
    assert sorted(running.metrics.accounts) == ["home", "other"]


async def test_every_path_on_every_address_is_guarded(start, certificates: CertificateFolder):
    """
    TLS and users stand before all paths, health included, wherever the exporter listens.
    """
    SCRIPTS["home"] = VisitScript([hang_forever])
    running = await start(
        "home", addresses=(ANYWHERE, ANYWHERE), web_config_file=write_web_config(certificates, TLS + build_user(PASSWORD_HASH))
    )
    context = ssl.create_default_context(cadata=certificates.ca.cert_pem.bytes().decode())
    paths = ("/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/-/visit", "/static/status.css", "/none")
    known = {"Authorization": "Basic " + base64.b64encode(b"bob:secret").decode()}
    found = []
    for at in running.addresses:
        for path in paths:
            async with running.client.get(f"https://{at}{path}", ssl=context) as answer:
                found.append(answer.status)
        async with running.client.get(f"https://{at}/-/healthy", ssl=context, headers=known) as answer:
            found.append(answer.status)

    assert len({at.port for at in running.addresses}) == 2
    assert found == [*[401] * len(paths), 200] * 2


async def test_visits_by_a_persons_word(start):
    """
    A visit asked for comes soon; one within a minute of the last is put off, and an account must be there.
    """
    SCRIPTS["home"] = VisitScript([[build_index(5.0, NOW)], [build_index(6.0, NOW)]])
    running = await start("home")
    await until(lambda: running.metrics.accounts["home"].health.state.up is True)

    assert (await running.ask("POST", "/-/visit?account=nobody"))[0] == 404
    assert (await running.ask("GET", "/-/visit?account=home"))[0] == 405
    async with running.client.post(f"http://{running.addresses[0]}/-/visit?account=home") as answer:
        assert (answer.status, 0 < int(answer.headers["Retry-After"]) <= 60) == (429, True)
    assert visits("home") == 1
