"""The shape of responses: what changes of the fields that a client uses is noticed, named and shown once."""

import logging
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.base import FailFastList, ResponseModel, parse_response
from exporter.recording.shape import ShapeHistory, Shapes, observe_rows, watch_shapes
from exporter.simulators.base import Simulation, run_simulation
from tests.conftest import FakeClock
from tests.fault_proxy import list_simulation_types
from tests.recording.test_replay import make_account

DAY = date(2026, 11, 20)


class Row(ResponseModel):
    value: float | None = Field(alias="v")
    note: str = ""


class Body(ResponseModel):
    rows: FailFastList[Row] | None = None


def watch(*bodies: Any) -> Shapes:
    with watch_shapes() as shapes:
        for body in bodies:
            try:
                parse_response(Body, body)
            except Exception:
                continue
    return shapes


def changes(*visits: Any) -> list[str]:
    """Return what the last of some visits changes."""
    history = ShapeHistory()
    for visit in visits:
        found = history.add(watch(visit), DAY)
    return [change.text for change in found]


ROW = {"v": 1.5, "note": "x"}


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([ROW], [{"v": 1.5}], "the response: Body.rows.note is gone"),
        ([{"v": 1.5}], [ROW], "the response: Body.rows.note is there now"),
        ([ROW], [{"value": 1.5, "note": "x"}], "the response: Body.rows.v is gone"),
        ([ROW], [{"v": None, "note": "x"}], "the response: Body.rows.v is null now"),
        ([ROW], [{"v": "1.5", "note": "x"}], "the response: Body.rows.v is text now, it was number"),
        ([ROW], [ROW | {"new": 1}], None),
        ([ROW], [ROW, {"v": None}], None),
        ([{"v": None, "note": "x"}], [ROW], None),
        ([ROW], [], None),
    ],
)
def test_a_change_is_named(before: Any, after: Any, text: str | None) -> None:
    """
    A field that is used and is gone, new, null or of another type is named; an unknown one, or one row, is no change.
    """
    assert changes({"rows": before}, {"rows": after}) == ([text] if text else [])


def test_a_change_is_told_once() -> None:
    gone, there = {"rows": [{"v": 1}]}, {"rows": [ROW]}

    assert changes(there, gone) == ["the response: Body.rows.note is gone"]
    assert changes(there, gone, gone) == []
    assert changes(there, gone, there, gone) == []
    assert changes(there) == []


def test_unknown_fields_are_collected() -> None:
    assert watch({"rows": [ROW | {"new": 1}], "more": 2}).unknown == {"the response: Body.more", "the response: Body.rows.new"}


def test_a_history_is_kept_as_json() -> None:
    """
    What is kept can be read again; what is damaged is an empty history.
    """
    history = ShapeHistory()
    history.add(watch({"rows": [ROW]}), DAY)
    history.add(watch({"rows": [{"v": 1}]}), DAY)

    assert ShapeHistory.parse(history.dump()) == history
    assert ShapeHistory.parse({"fields": 1}) == ShapeHistory.parse(None) == ShapeHistory()
    assert history.recent(DAY) == ["the portal's responses have changed (2026-11-20): the response: Body.rows.note is gone"]
    assert history.recent(date(2027, 2, 1)) == []


def test_the_first_rows_of_a_long_list_are_enough() -> None:
    """
    A city's list is not parsed twice: only its first rows are looked at, wrapped or not.
    """
    rows = ",".join('{"v": 1.5, "note": "x"}' for _ in range(100_000))
    for body in (f"[{rows}]", f'{{"data": [{rows}]}}', "[]", "no list", '[{"v": 1.5, "note": "x"}, {"v"'):
        with watch_shapes() as shapes:
            observe_rows(Row, body.encode())
        assert shapes.fields in ({"Row.v": {"number"}, "Row.note": {"text"}}, {})


def test_without_a_watch_nothing_is_noted() -> None:
    parse_response(Body, {"rows": [ROW]})
    assert watch() == Shapes()


FAULTS = {
    "water-link": ("/api/meters", "drop:meterReading", "meters: MeterResponse.meterReading is gone"),
    "cem": ("id=107", "renamed:var_lastvar", "CounterRow.var_lastvar is gone"),
    "fluvius": ("measurement-history", "endless", ".de is gone"),
    "enedis": ("consommation_quotidienne", "rename:unite:unit", ".unite is gone"),
}


@pytest.fixture(params=FAULTS)
async def simulation(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[tuple[Simulation, str]]:
    simulation = list_simulation_types()[request.param](clock)
    async with run_simulation(simulation) as url:
        yield simulation, url


async def test_a_portal_that_changed_is_noticed(
    simulation: tuple[Simulation, str], clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The log names the field once, the metric counts it, the status page shows it for a month, over restarts.
    """
    portal, url = simulation
    pattern, fault, text = FAULTS[portal.portal]
    account = make_account(portal, url)
    caplog.set_level(logging.WARNING)
    with Ledger(tmp_path) as ledger:
        page = MetricsPage(ledger, clock, "0")
        poller = AccountPoller(account, ledger, page, clock, lambda: 0.5)
        await poller.open()
        await poller.visit()
        health = page.accounts[account.name].health
        assert (health.shape_changes, health.shape_notes) == (0, ())
        portal.faults.add(pattern, fault)
        for _ in range(2):
            clock.advance(days=1)
            await poller.visit()
        warned = [record.getMessage() for record in caplog.records if text in record.getMessage()]

        assert health.shape_changes >= 1
        assert any(text in note for note in health.shape_notes)
        assert len(warned) == len(set(warned)) >= 1
        assert f'utility_portal_shape_changes_total{{account="{account.name}"}} {health.shape_changes}' in page.render().decode()
        again = AccountPoller(account, ledger, MetricsPage(ledger, clock, "0"), clock, lambda: 0.5)
        await again.open()
        assert again.health.shape_notes == health.shape_notes


async def test_a_step_of_the_backlog_notices_it_too(clock: FakeClock, tmp_path: Path) -> None:
    """
    What changes while the history is read is not first seen at the next visit.
    """
    simulation = list_simulation_types()["fluvius"](clock)
    async with run_simulation(simulation) as url:
        with Ledger(tmp_path) as ledger:
            account = make_account(simulation, url, interval_requests=1)
            poller = AccountPoller(account, ledger, MetricsPage(ledger, clock, "0"), clock, lambda: 0.5)
            await poller.open()
            await poller.visit()
            simulation.faults.add("measurement-history", "endless")
            await poller.step()

            assert any(".de is gone" in note for note in poller.health.shape_notes)
