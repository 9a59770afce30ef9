"""`report`: one visit as a file, the last failure of `serve` as a file, and what a person sees of it."""

import asyncio
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.client.session import Session
from exporter.commands.report import record_visit
from exporter.errors import LoginError, PortalError, ResponseError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.cem.account import Cem
from exporter.recording.recorder import FreshStore
from exporter.recording.recording import FailureRecordings, get_file, read_document
from exporter.recording.rules import PUBLIC_WORDS
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.configurable_portal import ConfigurablePortal
from tests.conftest import NOW, FakeClock
from tests.fault_proxy import list_simulation_types
from tests.recording.replay import replay
from tests.recording.test_replay import FACTOR, expected, make_account, read_values, with_factor
from tests.scripted_portal import SCRIPTS, VisitScript, build_portal
from tests.visit_parts import PartialFailure


async def run_command(tmp_path: Path, *arguments: str, faults: tuple[tuple[str, str], ...] = ()) -> int:
    """Run a command on the simulated block of flats."""
    simulation = CemSimulation()
    for pattern, fault in faults:
        simulation.faults.add(pattern, fault)
    async with run_simulation(simulation) as url:
        return await run_command_at(url, simulation, tmp_path, *arguments)


async def run_command_at(url: str, simulation: CemSimulation, tmp_path: Path, *arguments: str) -> int:
    """Run a command on a simulation that runs."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"accounts": simulation.build_accounts(url)}))
    config.chmod(0o600)
    flags = [f"--config.file={config}", f"--storage.path={tmp_path / 'data'}"]
    return await asyncio.to_thread(main, [arguments[0], *flags, *arguments[1:]])


async def test_report_shows_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The summary names requests, outcome and every text that was kept; the file is its owner's, and says in its first line
    what it is.
    """
    file = tmp_path / "report.json"
    assert await run_command(tmp_path, "report", "block-of-flats", "-o", str(file)) == 0
    shown = capsys.readouterr().out
    document = read_document(file)

    assert "nothing has been sent" in shown
    assert str(file) in shown
    assert re.search(r"outcome +no failure", shown)
    assert re.search(r"requests +\d+ GET, \d+ POST", shown)
    assert "m³" in shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith('{"recording": "A visit of utility-exporter')
    assert (await replay(document)).failure is None
    for secret in ("svj-ukazka", "tajné", "Ukázková", "SIM", "127.0.0.1", "block-of-flats"):
        assert secret not in file.read_text()


async def test_a_failing_visit_is_recorded_to_its_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Nothing is stored of it, the command succeeds, and the failure stands in the summary.
    """
    file = tmp_path / "report.json"
    assert await run_command(tmp_path, "report", "block-of-flats", "-o", str(file), faults=(("id=107", "html"),)) == 0
    outcome = await replay(read_document(file))

    assert outcome.failure
    assert outcome.failure.reason == "response"
    assert str(outcome.failure) in capsys.readouterr().out


@pytest.mark.parametrize(("fault", "reason"), [("status:503", "unreachable"), ("html", "response"), ("unauthorized", "login")])
async def test_a_password_that_has_to_wait_is_not_sent_for_a_report(
    fault: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Whether the portal failed at the password or refused it: the next report sends none, says until when, and has the reason;
    `--force` sends it.
    """
    simulation, sent = CemSimulation(), list[int]()
    report = "report", "block-of-flats", "-o", str(tmp_path / "report.json")
    simulation.faults.add("id=4", fault)
    async with run_simulation(simulation) as url:
        for flags in ([], [], ["--force"]):
            assert await run_command_at(url, simulation, tmp_path, *report, *flags) == 0
            sent.append(len(simulation.requests))
            shown = capsys.readouterr().out
            document = read_document(tmp_path / "report.json")
            assert document["failure"]["reason"] == reason
            assert bool(document["calls"]) != ("No request was made: " in shown)
            assert bool(document["calls"]) or re.search(r"not .*before 20\d\d-\d\d-\d\d \d\d:\d\d UTC", shown)

    assert sent[0] == sent[1] < sent[2]


@pytest.mark.parametrize("failures", [[ResponseError("odd"), LoginError("refused")], [ResponseError("odd")]])
async def test_a_login_refused_after_another_failure(failures: list[PortalError]) -> None:
    """
    It is what the report tells, and what suspends the account, wherever it comes to light; nothing is asked after it.
    """
    portal, asked = build_portal(), list[Session]()

    async def discover(session: Session) -> None:
        asked.append(session)
        raise LoginError("refused")

    portal.discover = discover  # type: ignore[method-assign,assignment]
    SCRIPTS["home"] = VisitScript([[PartialFailure(error) for error in failures]])
    recorded = await record_visit(portal, lambda: NOW, FreshStore())

    assert isinstance(recorded.failure, LoginError)
    assert len(asked) == (len(failures) == 1)


def test_a_portal_of_another_package_is_redacted_by_its_own_words() -> None:
    """
    What its source names is kept without a word of rules; a portal of ours names its package itself.
    """
    rules = ConfigurablePortal.get_redaction_rules()

    assert rules.package == "tests"
    assert rules.collect_words() > PUBLIC_WORDS
    assert Cem.get_redaction_rules() is Cem.redaction


async def test_without_a_failure_there_is_none_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run_command(tmp_path, "report", "block-of-flats", "--last-failure") == 1
    assert "no failed visit of block-of-flats is recorded" in capsys.readouterr().err


async def test_a_thousand_counters_are_a_small_file(tmp_path: Path, clock: FakeClock) -> None:
    """
    A report of 1,000 counters stays below 1 MB, and what is left of its lists still joins.
    """
    from exporter.commands.report import MAX_FILE_BYTES, record_visit
    from exporter.recording.recorder import FreshStore

    simulation = CemSimulation(clock, flats=167)
    async with run_simulation(simulation) as url:
        visit = await record_visit(make_account(simulation, url), clock, FreshStore(), build=with_factor(FACTOR, MAX_FILE_BYTES))
    size = visit.recording.write(tmp_path / "report.json")
    outcome = await replay(read_document(tmp_path / "report.json"))

    assert len(simulation.building.counters) > 1000
    assert size < 1_000_000
    assert outcome.failure is None or outcome.unmatched  # the history of few counters is asked one by one, of many at once
    played = read_values(outcome.result)
    assert len(played) > 30
    assert played == pytest.approx({key: value for key, value in expected(visit).items() if key in played}, rel=1e-14, abs=1e-9)


@pytest.fixture
def make_poller(tmp_path: Path, clock: FakeClock) -> Callable[..., AccountPoller]:
    def make(account: object, ledger: Ledger, recordings: FailureRecordings) -> AccountPoller:
        page = MetricsPage(ledger, clock, "0")
        return AccountPoller(account, ledger, page, clock, lambda: 0.5, recordings=recordings)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("portal", ["cem", "water-link", "fluvius", "enedis"])
async def test_serve_keeps_the_last_failed_visit(
    portal: str, tmp_path: Path, clock: FakeClock, make_poller: Callable[..., AccountPoller]
) -> None:
    """
    The file appears with the failure, with what the account had kept; played, it fails in the same way. Switched off, it goes.
    """
    simulation = list_simulation_types()[portal](clock)
    recordings = FailureRecordings(tmp_path)
    recordings.configure(True)
    async with run_simulation(simulation) as url:
        account = make_account(simulation, url)
        with Ledger(tmp_path) as ledger:
            poller = make_poller(account, ledger, recordings)
            await poller.open()
            await poller.visit()
            file = get_file(tmp_path, account.name)
            assert not file.exists()
            simulation.faults.add("api", "html")
            clock.advance(days=1)
            await poller.visit()
            state = poller.state
    outcome = await replay(read_document(file))

    assert state.reason == "response"
    assert outcome.failure
    assert outcome.failure.reason == "response"
    assert file.stat().st_size <= 2 << 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    recordings.configure(False)
    assert not file.exists()


async def test_the_same_failure_is_recorded_once(tmp_path: Path, clock: FakeClock) -> None:
    """
    A portal that is down for days costs no redaction at each visit.
    """
    from exporter.recording.recorder import Recorder

    simulation = CemSimulation(clock)
    account = make_account(simulation, "http://127.0.0.1:1")
    recordings = FailureRecordings(tmp_path)
    assert recordings.begin(NOW) is None
    recordings.configure(True)
    for message in ("first", "first", "second"):
        recordings.write(account.config, account.name, account.redaction, Recorder(NOW, 1), ResponseError(message))
        if message == "first":
            get_file(tmp_path, account.name).unlink(missing_ok=True)

    assert "second" in get_file(tmp_path, account.name).read_text()
