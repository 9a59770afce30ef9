"""`discover` and `raw` of an Enedis account."""

from datetime import date

import pytest

from exporter.errors import LoginError, NoDataError, PortalError, ResponseError
from exporter.models import Discovery
from exporter.portals.enedis.account import Enedis
from tests.portals.enedis_account import ACCESS_METHODS, EnedisAccount, run_account


async def discovered(home: EnedisAccount) -> Discovery:
    async with home.open_session() as session:
        return await home.portal.discover(session)


async def asked(home: EnedisAccount, call: str, **keys: str) -> object:
    async with home.open_session() as session:
        return await home.portal.fetch_raw(session, call, keys)


async def test_discover_tells_series_lengths_reach_and_holes() -> None:
    """
    Each usage point has its series, with the length of intervals, how far back they go, and the days that are missing.
    """
    async with run_account("dataconnect") as home:
        found = await discovered(home)

        producing, young = found.findings
        series = {finding.facts["series"]: finding.facts for finding in producing.children}
        assert set(series) == set(Enedis.raw_calls) - {"contract", "valid_access"}
        assert producing.facts["subscribed_power_kva"] == 9
        assert series["consumption_curve"]["intervals"] == ["PT30M"]
        assert series["consumption_curve"]["holes"] == ["2026-11-17"]
        assert "2026-10-23" in str(series["consumption_days"]["holes"])
        assert series["consumption_days"]["reaches_back_to"] == "2023-11-20"
        assert young.facts["contract_since"] == str(home.simulation.recent_customer.activation)
        (days,) = (finding for finding in young.children if finding.facts["series"] == "consumption_days")
        assert days.facts["reaches_back_to"] == str(home.simulation.recent_customer.activation)
        (curve,) = (finding for finding in young.children if finding.facts["series"] == "consumption_curve")
        assert curve.facts["intervals"] == ["PT15M"]
        assert f'prm: "{home.simulation.producer.prm}", production: true' in found.config


@pytest.mark.parametrize("access", ["dataconnect", "conso"])
async def test_discover_tells_since_when_days_are_accepted(access: str) -> None:
    """
    How far back days go is what Enedis accepts, not the date of the present contract.
    """
    async with run_account(access) as home:
        young = home.simulation.recent_customer
        home.simulation.source.contract_starts[young.prm] = date(2026, 9, 21)
        home.restart(usage_points=[{"prm": young.prm, "load_curve": False}])
        found = await discovered(home)

        days = found.findings[0].children[0].facts
        assert days["reaches_back_to"] == str(young.activation)
        assert found.findings[0].facts.get("contract_since") == ("2026-09-21" if access == "dataconnect" else None)


async def test_discover_marks_a_usage_point_of_which_nothing_comes() -> None:
    """
    A usage point without any series is marked, with a note; when all are, nothing was found.
    """
    async with run_account() as home:
        home.simulation.faults.add(f"pointId={home.simulation.recent_customer.prm}", "enedis:404:no_data_found")
        found = await discovered(home)
        assert [finding.is_missing for finding in found.findings] == [False, True]
        assert any("nothing of workshop" in note for note in found.notes)
        assert not found.is_empty

        home.simulation.faults.add("", "enedis:404:no_data_found")
        assert (await discovered(home)).is_empty


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_discover_works_by_every_access(access: str, api: str) -> None:
    """
    What an access does not offer is stated, and the rest is found.
    """
    async with run_account(access, api) as home:
        found = await discovered(home)

        there = {str(finding.facts["series"]) for finding in found.findings[0].children if finding.facts["there"]}
        registers = {"consumption_index", "production_index"} if api == "2026" else set()
        assert there == registers | {
            "consumption_days",
            "consumption_max",
            "consumption_curve",
            "production_days",
            "production_curve",
        }


async def test_discover_says_why_a_curve_is_missing() -> None:
    """
    Days and no curve: the note names what to switch on.
    """
    async with run_account() as home:
        home.simulation.faults.add("courbe_de_charge", "enedis:404:no_data_found")
        found = await discovered(home)

        assert len(found.notes) == 3
        assert all("collection" in note for note in found.notes)


async def test_discover_tells_a_refused_usage_point_in_the_tree() -> None:
    """
    One usage point without consent does not hide the other; a refused login does.
    """
    async with run_account() as home:
        home.simulation.source.refusals[home.simulation.recent_customer.prm] = "ADAM-DC-0008"
        found = await discovered(home)
        assert "no consent" in found.findings[1].text
        assert found.findings[0].children

    async with run_account("dataconnect", client_secret="wrong") as home:
        with pytest.raises(LoginError):
            await discovered(home)


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
@pytest.mark.parametrize("call", Enedis.raw_calls)
async def test_raw_returns_every_resource(access: str, api: str, call: str) -> None:
    """
    Every call returns the portal's own response, or the error that this access does not offer it.
    """
    async with run_account(access, api) as home:
        lacking = set() if api == "2026" else {"consumption_index", "production_index"}
        lacking |= {"contract"} if access == "conso" else set()
        lacking |= {"valid_access"} if api != "v1" else set()
        if call in lacking:
            with pytest.raises(NoDataError, match="does not offer"):
                await asked(home, call)
        else:
            assert isinstance(await asked(home, call), dict | list)


@pytest.mark.parametrize("who", ["1", "workshop"])
async def test_raw_takes_a_usage_point_and_days(who: str) -> None:
    """
    The usage point is chosen by its position or alias, the days from the first to the last.
    """
    async with run_account() as home:
        await asked(home, "consumption_curve", usage_point=who, **{"from": "2026-11-02", "to": "2026-11-03"})

        (seen,) = home.simulation.requests
        assert seen.query == {"pointId": home.simulation.recent_customer.prm, "dateDebut": "2026-11-02", "dateFin": "2026-11-04"}


@pytest.mark.parametrize(("keys", "message"), [({"usage_point": "9"}, "usage_point"), ({"from": "yesterday"}, "from")])
async def test_raw_names_the_key_that_cannot_be_used(keys: dict[str, str], message: str) -> None:
    """
    An invalid parameter is named, and nothing is requested.
    """
    async with run_account() as home:
        with pytest.raises(ResponseError, match=message):
            await asked(home, "consumption_days", **keys)
        assert home.simulation.requests == []


async def test_raw_raises_our_errors() -> None:
    """
    A refusal is explained like in a visit.
    """
    async with run_account() as home:
        with pytest.raises(PortalError, match="nothing is kept that far back"):
            await asked(home, "consumption_days", **{"from": "2015-01-01", "to": str(date(2015, 1, 2))})
