"""Recordings played: of every simulated portal, right and odd, the same readings up to the factor, or the same failure."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.report import RecordedVisit, record_visit
from exporter.models import Index, Interval, Reading, VisitResult
from exporter.portals.base import Portal
from exporter.recording.dates import MOVE
from exporter.recording.json_text import parse_json, to_plain
from exporter.recording.recorder import FreshStore
from exporter.recording.recording import Recording, build_recording
from exporter.recording.redaction import Redactor
from exporter.simulators.base import Simulation, run_simulation
from tests.conftest import NOW, FakeClock, build_portal_of
from tests.fault_proxy import list_simulation_types
from tests.recording.replay import FOLDER, Outcome, add_recording, describe_series, list_recordings, replay

FACTOR = Decimal(2)
"""Doubling rounds nothing: what is played is exactly twice what was."""
OCTOBER_NIGHT = datetime(2026, 10, 27, 9, 30, tzinfo=UTC)
ACCOUNTS = {
    "cem": ("cem", 0, {}),
    "water-link": ("water-link", 0, {}),
    "fluvius": ("fluvius", 0, {}),
    "enedis conso": ("enedis", 0, {}),
    "enedis dataconnect": ("enedis", 1, {}),
    "enedis myelectricaldata": ("enedis", 2, {}),
}


def make_account(simulation: Simulation, url: str, number: int = 0, **keys: Any) -> Portal:
    entry = simulation.build_accounts(url)[number] | keys
    return build_portal_of(entry)


def with_factor(factor: Decimal | None, max_bytes: int | None = None) -> Any:
    """Return the building of a recording with a factor that the test knows."""

    def build(portal: Portal, rules: Any, recorder: Any, failure: Any) -> Recording:
        return build_recording(portal, rules, recorder, failure, factor=factor, max_bytes=max_bytes)

    return build


async def record(
    name: str,
    faults: list[tuple[str, str]] = (),
    *,
    at: datetime = NOW,
    factor: Decimal | None = FACTOR,
    **keys: Any,  # type: ignore[assignment]
) -> RecordedVisit:
    portal_name, number, more = ACCOUNTS[name]
    clock = FakeClock(at)
    simulation = list_simulation_types()[portal_name](clock)
    for pattern, fault in faults:
        simulation.faults.add(pattern, fault)
    async with run_simulation(simulation) as url:
        account = make_account(simulation, url, number, **more, **keys)
        return await record_visit(account, clock, FreshStore(), build=with_factor(factor), discover=False)


async def play(visit: RecordedVisit) -> Outcome:
    """Play what would be in the file."""
    return await replay(parse_json(visit.recording.format()))


def expected(visit: RecordedVisit, factor: Decimal = FACTOR) -> dict[Any, float]:
    """Return the readings of a visit as its recording should tell them."""
    redactor = visit.recording.redactor
    return {move_key(reading, redactor): value_of(reading) * float(factor) for reading in visit.result.readings}


def move_key(reading: Reading, redactor: Redactor) -> Any:
    point, name, direction, start, end = key_of(reading)
    move = MOVE.total_seconds()
    return (
        redactor.redact_text(point),
        name if name == "peak" else redactor.redact_text(name),
        direction,
        round(start + move, 3),
        round(end + move, 3),
    )


def key_of(reading: Reading) -> Any:
    match reading:
        case Index(register, _, at):
            return register.usage_point.id, register.name, register.direction, *seconds(at, at)
        case Interval(register, start, end):
            return register.usage_point.id, register.name, register.direction, *seconds(start, end)
    return reading.usage_point.id, "peak", "", *seconds(reading.start, reading.end)


def seconds(*instants: datetime) -> list[float]:
    """Return instants to the millisecond: floats of 2054 are less exact than those of today."""
    return [round(at.timestamp(), 3) for at in instants]


def value_of(reading: Reading) -> float:
    return reading.value if isinstance(reading, Index) else reading.amount if isinstance(reading, Interval) else reading.power


def read_values(result: VisitResult) -> dict[Any, float]:
    return {key_of(reading): value_of(reading) for reading in result.readings}


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_a_visit_is_played_to_the_same_readings(name: str) -> None:
    """
    The real client reads of a recording what it read of the portal: every reading, moved and doubled.
    """
    visit = await record(name)
    outcome = await play(visit)

    assert visit.failure is None
    assert outcome.failure is None
    assert outcome.unmatched == []
    assert_same_readings(visit, outcome)
    assert len(visit.result.readings) > 5


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_the_night_in_which_the_clock_changes_is_played(name: str) -> None:
    """
    Days of 25 hours and hours that come twice stay what they are after the move.
    """
    visit = await record(name, at=OCTOBER_NIGHT)
    outcome = await play(visit)

    assert (visit.failure, outcome.failure) == (None, None)
    assert_same_readings(visit, outcome)
    lengths = {reading.end - reading.start for reading in outcome.result.readings if isinstance(reading, Interval)}
    assert name == "cem" or timedelta(hours=25) in lengths


async def test_amounts_are_scaled_by_a_factor_that_nobody_is_told() -> None:
    """
    Without a factor of ours the readings are those of the portal times one that is drawn, but for rounding.
    """
    visit = await record("fluvius", factor=None)
    factor = visit.recording.redactor.factor
    outcome = await play(visit)

    assert Decimal("0.5") <= factor <= 2
    assert abs(factor - 1) >= Decimal("0.1")
    assert read_values(outcome.result) == pytest.approx(expected(visit, factor), abs=0.051)
    assert str(factor) not in visit.recording.format()


def assert_same_readings(visit: RecordedVisit, outcome: Outcome) -> None:
    """Compare reading by reading; where long lists were cut, those that are left."""
    played, readings = read_values(outcome.result), expected(visit)
    if visit.recording.rows_left_out:
        assert len(played) > len(readings) / 10
        readings = {key: value for key, value in readings.items() if key in played}
    assert played == pytest.approx(readings, rel=1e-14, abs=1e-9)


CLEAN_COUNTS: dict[str, int] = {}


async def count_clean_readings(name: str) -> int:
    """Return how many readings a visit without a fault brings: a fault without an effect proves nothing."""
    if name not in CLEAN_COUNTS:
        CLEAN_COUNTS[name] = len((await record(name)).result.readings)
    return CLEAN_COUNTS[name]


FAULTS = {
    ("cem", "renamed counter"): [("id=107", "renamed:var_id")],
    ("cem", "no type"): [("id=107", "without:pot_id")],
    ("cem", "HTML"): [("id=107", "html")],
    ("cem", "down"): [("id=4", "status:503")],
    ("cem", "too often"): [("id=8", "retry:120")],
    ("cem", "half a body"): [("id=107", "garbage")],
    ("cem", "cut off"): [("id=107", "cut")],
    ("water-link", "renamed"): [("/oauth2/authorize", "renamed:spId")],
    ("water-link", "renamed reading"): [("/api/meters", "drop:meterReading")],
    ("water-link", "new type"): [("/api/meters", 'set:meterReading="soon"')],
    ("water-link", "HTML"): [("/api/measurements", "html")],
    ("water-link", "wrong password"): [("/identity", "post:wrong_password")],
    ("water-link", "locked"): [("/identity", "post:locked")],
    ("water-link", "second factor"): [("/identity", "post:second_factor")],
    ("water-link", "terms"): [("/identity", "post:terms")],
    ("water-link", "foreign form"): [("/identity", "foreign_action")],
    ("water-link", "maintenance"): [("/identity", "maintenance")],
    ("fluvius", "renamed settings"): [("/authorize", "renamed")],
    ("fluvius", "renamed value"): [("measurement-history", "renamed-value")],
    ("fluvius", "HTML"): [("measurement-history", "html")],
    ("fluvius", "an object"): [("measurement-history", "object")],
    ("fluvius", "second factor"): [("/confirmed", "second-factor")],
    ("fluvius", "conditions"): [("/confirmed", "conditions")],
    ("fluvius", "locked"): [("SelfAsserted", "locked")],
    ("fluvius", "captcha"): [("SelfAsserted", "captcha")],
    ("fluvius", "professional"): [("SelfAsserted", "professional")],
    ("fluvius", "other state"): [("/api/home", "other-state")],
    ("fluvius", "refused"): [("/confirmed", "denied")],
    ("fluvius", "another host"): [("/confirmed", "elsewhere")],
    ("enedis conso", "renamed"): [("/api/consommation_quotidienne", "rename:grandeur:grandeurs")],
    ("enedis conso", "renamed value"): [("/api/courbe_de_charge", "rename:v:valeur")],
    ("enedis conso", "HTML"): [("/api/", "html")],
    ("enedis conso", "no consent"): [("/api/", "enedis:403:ADAM-DC-0008")],
    ("enedis conso", "quota"): [("/api/", "enedis:429:900804")],
    ("enedis dataconnect", "trouble"): [("/mesure", "enedis:500:STM-ERR-0000001")],
    ("enedis dataconnect", "wrong secret"): [("/oauth2", "status:401")],
    ("enedis myelectricaldata", "no data"): [("/enedis", "enedis:404:no_data_found")],
}


@pytest.mark.parametrize(("name", "what"), FAULTS)
async def test_an_odd_visit_is_played_to_the_same_outcome(name: str, what: str) -> None:
    """
    Reason and message are the same; what was read before it is too.
    """
    visit = await record(name, FAULTS[name, what])
    outcome = await play(visit)

    assert visit.failure or visit.result.skipped or len(visit.result.readings) < await count_clean_readings(name)
    failure = {"reason": outcome.failure.reason, "message": str(outcome.failure)} if outcome.failure else None
    assert failure == visit.recording.document["failure"]
    assert len(outcome.result.notes) == len(visit.result.notes)
    assert_same_readings(visit, outcome)


def list_recording_names() -> list[str]:
    return [file.name for file in list_recordings()]


@pytest.mark.parametrize("name", list_recording_names())
async def test_a_recording_has_its_outcome(name: str) -> None:
    """
    What somebody recorded is played to what was reviewed: readings, notes and failure.
    """
    document = parse_json((FOLDER / name).read_bytes())
    outcome = await replay(document)

    assert json.loads(json.dumps(outcome.describe())) == to_plain(document["expect"])
    assert outcome.unmatched == []


async def test_a_recording_becomes_a_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    `make recording` writes the outcome into the copy, and says what it is.
    """
    visit = await record("water-link", [("/api/measurements", "html")])
    visit.recording.write(tmp_path / "odd.json")
    target = await asyncio.to_thread(add_recording, tmp_path / "odd.json", tmp_path / "recordings")
    expect = to_plain(parse_json(target.read_bytes()))["expect"]

    assert expect["failure"]["reason"] == "response"
    assert len(expect["readings"]) == len(describe_series(visit.result.readings)) > 0
    assert "response: " in capsys.readouterr().out
