"""The page as bytes: what prometheus_client would write, whatever is kept; and a part renewed is a part made anew."""

import gzip
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from exporter.account_status import AccountHealth, AccountView
from exporter.errors import LedgerError
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import AccountSampleReader, find_month_start
from exporter.metrics.cache import USAGE_POINTS_PER_BLOCK, AccountMetrics, MetricsPage
from exporter.metrics.days import SampleContext
from exporter.metrics.exposition import (
    AGE_STEP,
    MIN_OWN_MEMBER_BYTES,
    OPENMETRICS,
    TEXT,
    AgePrefixes,
    FamilyLines,
    build_metric,
    format_lines,
    format_value,
    render_registry,
)
from exporter.metrics.families import AGE_FAMILY, FAMILIES, FAMILIES_BY_NAME, TIMESTAMP_FAMILY, LabelValues, Samples
from exporter.metrics.process import build_health_samples
from exporter.models import Commodity, Fact, Facts, Index, Interval, Inventory, Register, Unit, UsagePoint
from exporter.sync.feeds import FeedResult
from tests.conftest import NOW, FakeClock
from tests.visit_parts import VisitPart, build_result

ZONE = ZoneInfo("Europe/Brussels")
ODD = ['"', "\\", "\n", '\\"', "\\n", "é°", "", " ", "a b", "{}", "%s", "%", "=", ",", "\x85", "\u2028", "\r", "🔥"]
texts = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
values = st.one_of(
    st.floats(), st.integers(-(10**20), 10**20), st.booleans(), st.sampled_from([999999.5, 1e6, 123456789.0, 1e16, -1e7])
)
FORMS = pytest.mark.parametrize("form", [TEXT, OPENMETRICS])


def reference(samples: Samples, form: str) -> bytes:
    """The same samples, rendered by the library."""

    class Ours:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            for family in FAMILIES:
                if found := samples.get(family.name):
                    made = build_metric(family)
                    for labels, value in found.items():
                        name = family.name
                        made.add_sample(name, dict(zip(family.labels, labels, strict=True)), value)
                    yield made

    registry = CollectorRegistry()
    registry.register(Ours())
    return render_registry(registry, form)


@st.composite
def families_of_samples(draw: st.DrawFn) -> Samples:
    names = draw(st.lists(st.sampled_from([family.name for family in FAMILIES]), max_size=4, unique=True))
    return {
        name: draw(st.dictionaries(st.tuples(*[texts for _ in FAMILIES_BY_NAME[name].labels]), values, max_size=4))
        for name in names
    }


@given(families_of_samples(), st.sampled_from([TEXT, OPENMETRICS]))
def test_lines_are_the_librarys(samples, form):
    """
    Whatever stands in labels and values, a line is to the byte what prometheus_client writes.
    """
    ours = {line.encode() for name, found in samples.items() for line in format_lines(name, found)}
    theirs = reference(samples, form).split(b"\n")

    assert sorted(ours) == sorted({line for line in theirs if line and not line.startswith(b"# ")})


class Fleet:
    """A ledger of one account with a page that follows it visit by visit."""

    def __init__(self, folder: Path, points: int = 6) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(folder)
        self.ledger.open_account("town", portal="brook", zone=ZONE.key, login="")
        self.points = [UsagePoint(f"P{number}", Commodity.WATER, site='a "site"\\') for number in range(points)]
        self.page = self.fresh_page()
        self.visits = 0

    def registers(self, point: int) -> list[Register]:
        return [Register(self.points[point], Unit.M3, name="1"), Register(self.points[point], "KPD°", name="2")]

    def fresh_page(self) -> MetricsPage:
        page = MetricsPage(self.ledger, self.clock, "1")
        page.add_account(AccountView("town", "brook", ZONE, {"P1": "one"}), AccountHealth(timedelta(hours=1)))
        page.refresh("town")
        return page

    def record(self, *parts: VisitPart) -> LedgerChanges:
        self.visits += 1
        at = NOW + timedelta(minutes=self.visits)
        return self.ledger.record_visit("town", build_result(parts), AccountState(), at=at)[0]

    def collect(self) -> Samples:
        """All samples of the account as of now, from ledger and health; none of those that the page keeps."""
        account = self.page.accounts["town"]
        samples = defaultdict[str, dict[LabelValues, float]](dict)
        with self.ledger.snapshot() as snapshot:
            reader = AccountSampleReader(snapshot, SampleContext(account.view, find_month_start(NOW, ZONE)))
            for family, labels, value in (sample for point in reader.read_usage_points(None) for sample in point.samples):
                samples[family].setdefault(labels, value)
        for labels, at in samples.get(TIMESTAMP_FAMILY, {}).items():
            samples[AGE_FAMILY][labels] = int(NOW.timestamp()) - int(at)
        return samples | build_health_samples(account.view, account.health, NOW)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.ledger.close()


def sorted_lines(page: MetricsPage, form: str = TEXT) -> list[bytes]:
    return sorted(line for line in page.render(form).split(b"\n") if b"utility_" in line and b"utility_visits_" not in line)


steps = st.lists(
    st.tuples(st.sampled_from(["read", "facts", "days", "leave", "rename"]), st.integers(0, 5), st.integers(0, 9)), max_size=12
)


def step(fleet: Fleet, what: str, point: int, number: int) -> list[VisitPart]:
    """What one visit tells."""
    if what == "read":
        return [Index(one, number / 4, NOW - timedelta(hours=number)) for one in fleet.registers(point)]
    if what == "facts":
        return [Facts(fleet.points[point], {Fact.METER_ACTIVE: number % 2} if number < 7 else {})]
    if what == "days":
        start = NOW.replace(hour=23, minute=0) - timedelta(days=number + 2)
        return [Interval(fleet.registers(point)[0], start, start + timedelta(days=1), number / 8)]
    if what == "leave":
        return [Inventory(tuple(one for place, one in enumerate(fleet.points) if (place + number) % 3))]
    fleet.points[point] = replace(fleet.points[point], name=f"name {number}")
    return [Facts(fleet.points[point], {})]


@settings(max_examples=40, deadline=None)
@given(visits=steps)
def test_a_part_renewed_is_a_part_made_anew(tmp_path_factory, visits):
    """
    After any visits the page that was renewed each time says what a page says that is made of the whole ledger.
    """
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    fleet.record(*(part for point in range(6) for part in step(fleet, "read", point, point)))
    fleet.page.refresh("town")
    for visit in visits:
        recorded = fleet.record(*step(fleet, *visit))
        fleet.page.refresh("town", recorded)
        assert sorted_lines(fleet.page) == sorted_lines(fleet.fresh_page())
    fleet.ledger.close()


def test_many_new_points_are_a_part_made_anew(tmp_path, monkeypatch):
    """
    More new usage points than are built at a time, two of them under one name, make the page that all at once make.
    """
    monkeypatch.setattr("exporter.metrics.cache.USAGE_POINTS_PER_BLOCK", 3)
    monkeypatch.setattr("exporter.metrics.cache.BLOCKS_AT_A_TIME", 2)
    fleet = Fleet(tmp_path, points=20)
    fleet.points[17] = replace(fleet.points[17], id="one")
    fleet.page.refresh("town", fleet.record(*(part for one in range(20) for part in step(fleet, "read", one, one % 7))))
    ours, anew = fleet.page.render(), fleet.fresh_page().render()
    fleet.ledger.close()

    assert len(fleet.page.accounts["town"].kept_samples.blocks) == 7
    assert [line for line in ours.split(b"\n") if b"usage_point" in line] == [
        line for line in anew.split(b"\n") if b"usage_point" in line
    ]


@FORMS
def test_the_page_is_the_librarys(fleet, form):
    """
    Head, lines and their order are to the byte what the library writes of the same samples.
    """
    fleet.page.refresh("town", fleet.record(*(part for point in range(6) for part in step(fleet, "read", point, point))))
    samples = fleet.collect()
    ours = fleet.page.render(form)
    ours = ours[: ours.index(b"# HELP utility_exporter_build")]

    assert ours == reference(samples, form).removesuffix(b"# EOF\n")


@settings(max_examples=40, deadline=None)
@given(visits=steps, names=st.lists(texts, min_size=12, max_size=12), form=st.sampled_from([TEXT, OPENMETRICS]))
def test_any_page_is_the_librarys(tmp_path_factory, visits, names, form):
    """
    After any visits, whatever stands in names, the page has to the byte the lines of prometheus_client, and no others.
    """
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    fleet.points = [replace(one, name=names[at], site=names[at + 6]) for at, one in enumerate(fleet.points)]
    for visit in [("read", 0, 1), *visits]:
        fleet.page.refresh("town", fleet.record(*step(fleet, *visit)))
    samples = fleet.collect()
    ours = fleet.page.render(form)
    ours = ours[: ours.index(b"# HELP utility_exporter_build")]
    fleet.ledger.close()

    assert sorted(ours.split(b"\n")) == sorted(reference(samples, form).removesuffix(b"# EOF\n").split(b"\n"))


@FORMS
def test_gzip_is_the_same_page(tmp_path, form):
    """
    The members of a page with large and small parts unpack, one after the other, to the plain page.
    """
    fleet = Fleet(tmp_path, points=USAGE_POINTS_PER_BLOCK * 2 + 20)
    fleet.page.refresh(
        "town", fleet.record(*(part for one in range(len(fleet.points)) for part in step(fleet, "read", one, one % 9)))
    )
    ours = [
        line
        for line in gzip.decompress(b"".join(fleet.page.render_parts(form, compress=True))).split(b"\n")
        if b"utility" in line
    ]
    fleet.ledger.close()

    assert ours == [line for line in fleet.page.render(form).split(b"\n") if b"utility" in line]
    assert (
        sum(
            bool(lines.compressed)
            for cached in fleet.page.accounts["town"].kept_samples.lines_by_family.values()
            for lines in cached
        )
        > 4
    )


def test_only_what_changed_is_made_anew(tmp_path):
    """
    Of a reading more, the lines of its leaf in its families are new; all other lines are the very ones from before.
    """
    fleet = Fleet(tmp_path, points=USAGE_POINTS_PER_BLOCK * 2)
    fleet.page.refresh("town", fleet.record(*(part for one in range(len(fleet.points)) for part in step(fleet, "read", one, 5))))
    before = fleet.page.accounts["town"].kept_samples.blocks
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", USAGE_POINTS_PER_BLOCK + 3, 1)))
    after = fleet.page.accounts["town"].kept_samples.blocks
    fleet.ledger.close()

    assert after[0] is before[0]
    assert {family for family, lines in after[1].lines_by_family.items() if lines is not before[1].lines_by_family[family]} == {
        "utility_consumption_index_m3", "utility_register_value", "utility_reading_timestamp_seconds",
    }  # fmt: skip


def test_a_scrape_during_a_refresh_keeps_no_older_page(tmp_path, monkeypatch):
    """
    A scrape that overlaps the end of a refresh leaves the body of that refresh in place: none must be joined anew.
    """
    fleet = Fleet(tmp_path, points=4)
    account, scrape = fleet.page.accounts["town"], threading.Thread(target=fleet.page.render)

    def scrape_before(account: AccountMetrics, name: str, value: object) -> None:
        if name == "kept_samples":
            scrape.start()
            scrape.join(0.2)  # it may wait for the refresh
        object.__setattr__(account, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(AccountMetrics, "__setattr__", scrape_before, raising=False)
        fleet.page.refresh("town", fleet.record(*step(fleet, "read", 0, 5)))
    scrape.join()
    fleet.ledger.close()

    assert fleet.page._body.is_current([account.kept_samples.lines_by_family])


def test_readings_of_another_process_are_noticed(fleet):
    """
    What an import beside the exporter has brought home is on the page after the next visit.
    """
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", 0, 5)))
    with Ledger(fleet.ledger.database.path.parent) as other:
        days = [part for part in step(fleet, "days", 3, 1) if isinstance(part, Interval)]
        other.record_feed("town", {}, FeedResult(days), at=NOW)
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", 1, 5)))

    assert b'utility_daily_consumption_m3{account="town",register="1",usage_point="P3"} 0.125' in fleet.page.render()


def test_a_refresh_that_failed_is_made_good(fleet, monkeypatch):
    """
    When the ledger cannot be read after a visit, the next refresh brings that visit's readings too.
    """
    recorded = fleet.record(*step(fleet, "read", 0, 5))
    with monkeypatch.context() as broken:
        broken.setattr("exporter.metrics.cache.update_samples", lambda *_: (_ for _ in ()).throw(LedgerError("the disk is gone")))
        with pytest.raises(LedgerError):
            fleet.page.refresh("town", recorded)
    fleet.page.refresh("town", fleet.record())

    assert sorted_lines(fleet.page) == sorted_lines(fleet.fresh_page())


def test_two_names_alike_are_one(tmp_path):
    """
    Of two usage points whose names come out alike the first one stays, though the second is read again.
    """
    fleet = Fleet(tmp_path)
    fleet.points[2] = UsagePoint(" P0", Commodity.WATER)
    for number in (1, 2, 3):
        fleet.page.refresh("town", fleet.record(*step(fleet, "read", 2 * (number % 2), number)))
        assert sorted_lines(fleet.page) == sorted_lines(fleet.fresh_page())
    fleet.ledger.close()

    assert fleet.page.render().count(b"utility_consumption_index_m3{") == 1


@pytest.mark.parametrize("gzipped", [False, True])
def test_ages_of_many_are_written_ahead(tmp_path, monkeypatch, gzipped):
    """
    Of many usage points the ages are as of the last whole step, and the next step's are there before anybody asks.
    """
    monkeypatch.setattr("exporter.metrics.exposition.STEPPED_ABOVE", 3)
    fleet = Fleet(tmp_path)
    fleet.page.refresh("town", fleet.record(*(part for point in range(6) for part in step(fleet, "read", point, 1))))

    def ages() -> list[bytes]:
        page = b"".join(fleet.page.render_parts(compress=gzipped))
        lines = (gzip.decompress(page) if gzipped else page).split(b"\n")
        return [line.split()[-1] for line in lines if line.startswith(b"utility_reading_age_seconds")]

    fleet.clock.at = NOW + timedelta(seconds=AGE_STEP + 4)
    assert ages() == [b"%d.0" % (3600 + AGE_STEP)] * 6
    fleet.page.render_ages_ahead()
    monkeypatch.setattr("exporter.metrics.exposition.RenderedAges._render", lambda *_: pytest.fail("nothing was written ahead"))
    fleet.clock.at += timedelta(seconds=AGE_STEP)

    assert ages() == [b"%d.0" % (3600 + 2 * AGE_STEP)] * 6
    fleet.ledger.close()


def test_an_account_that_is_removed_leaves_the_page(fleet):
    """
    Its kept lines go with it, at once.
    """
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", 0, 5)))
    assert b'usage_point="P0"' in fleet.page.render()
    fleet.page.remove_account("town")

    assert b'usage_point="P0"' not in fleet.page.render()


def test_an_account_that_begins_anew_stays_on_the_page(fleet):
    """
    A reload that changes an account's rhythm leaves no scrape without its readings; another way to show it does not wait.
    """
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", 0, 5)))
    part = fleet.page.accounts["town"]
    fleet.page.add_account(part.view, AccountHealth(timedelta(hours=2)))
    same = fleet.page.render()
    fleet.page.add_account(replace(part.view, aliases={"P0": "zero"}), AccountHealth(timedelta(hours=2)))

    assert b'usage_point="P0"' in same
    assert b'usage_point="P0"' not in fleet.page.render()


def test_accounts_share_a_family(fleet):
    """
    A family's lines stand together, whatever account they are of.
    """
    fleet.page.refresh("town", fleet.record(*step(fleet, "read", 0, 5)))
    fleet.ledger.open_account("village", portal="brook", zone=ZONE.key, login="")
    fleet.ledger.record_visit("village", build_result(step(fleet, "read", 3, 2)), AccountState(), at=NOW)
    fleet.page.add_account(AccountView("village", "brook", ZONE), AccountHealth(timedelta(hours=1)))
    fleet.page.refresh("village")
    names = [line.partition("{")[0] for line in fleet.page.render().decode().splitlines() if line.startswith("utility_")]

    assert [name for place, name in enumerate(names) if name in names[:place] and names[place - 1] != name] == []
    assert names.count("utility_reading_age_seconds") == 2


def test_pages_are_whole_while_they_change(tmp_path):
    """
    Whoever asks while parts are renewed is given a page with every line there is, once.
    """
    fleet = Fleet(tmp_path, points=40)
    fleet.page.refresh("town", fleet.record(*(part for one in range(40) for part in step(fleet, "read", one, 5))))
    expected, done, chance = len(sorted_lines(fleet.page)), threading.Event(), random.Random(3)
    found = set()

    def render() -> None:
        while not done.is_set():
            found.add(len(set(sorted_lines(fleet.page))))

    asking = threading.Thread(target=render)
    asking.start()
    for _ in range(60):
        fleet.page.refresh("town", fleet.record(*step(fleet, "read", chance.randrange(40), chance.randrange(5))))
    done.set()
    asking.join()
    fleet.ledger.close()

    assert found == {expected}


@given(st.dictionaries(st.tuples(texts, texts), values, min_size=1), st.data())
def test_replaced_lines_equal_lines_built_anew(before, data):
    """
    Lines taken out and samples anew leave the text that all of them written at once would have.
    """
    family = "utility_subscribed_power_kva"
    names = data.draw(st.sets(st.one_of(st.sampled_from(sorted(name for _, name in before)), texts), min_size=1))
    samples = data.draw(st.dictionaries(st.tuples(texts, st.sampled_from(sorted(names))), values))
    kept = {labels: value for labels, value in before.items() if labels[1] not in names or labels in samples}
    after: dict[LabelValues, float] = kept | samples
    written, lines = (
        FamilyLines.from_samples(family, after),
        FamilyLines.from_samples(family, before).replace_usage_points(names, samples),
    )

    assert (lines and lines.text) == (written and written.text)
    assert lines is None or list(map(format_value, lines.numbers)) == list(map(format_value, after.values()))
    assert lines is None or (not lines.compressed) == (len(lines.text) < MIN_OWN_MEMBER_BYTES)


@given(st.dictionaries(texts, st.integers(0, 10**10), min_size=1), st.data())
def test_updated_ages_equal_ages_built_anew(before, data):
    """
    Whatever becomes of the lines of the instants, the ages that are renewed with it are those that it gives.
    """
    old = FamilyLines.from_samples(TIMESTAMP_FAMILY, {("home", name): at for name, at in before.items()})
    names = data.draw(st.sets(st.one_of(st.sampled_from(sorted(before)), texts), min_size=1))
    samples = data.draw(st.dictionaries(st.sampled_from(sorted(names)), st.integers(0, 10**10)))
    new = old.replace_usage_points(names, {("home", name): at for name, at in samples.items()})

    assert new is None or AgePrefixes.from_lines(old).update(old, new) == AgePrefixes.from_lines(new)
