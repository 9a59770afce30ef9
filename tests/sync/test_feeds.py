"""Which readings a feed is judged by."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from exporter.models import Commodity, Interval, Register, Unit, UsagePoint
from exporter.sync.feeds import Days, Feed, Form

PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
REGISTER = Register(UsagePoint("p", Commodity.ELECTRICITY), Unit.KWH)


@pytest.mark.parametrize(("minutes", "counts"), [(5, False), (15, True), (30, True), (60, True), (24 * 60, False)])
def test_intervals_of_several_lengths(minutes: int, counts: bool) -> None:
    """
    A load curve whose meter changes the length of its intervals is one feed; its daily energy is another.
    """
    curve = Feed(key="c", zone=PARIS, chunk=Days(7), resolution="PT30M", other_resolutions=("PT15M", "PT1H"))
    reading = Interval(REGISTER, AT, AT + timedelta(minutes=minutes), 1)

    assert (curve.period(reading) is not None) is counts


@pytest.mark.parametrize(
    ("form", "resolution", "last"),
    [(Form.INDEX, "P1D", 19), (Form.INDEX, None, 20), (Form.INTERVAL, "P1D", 19), (Form.PEAK, "P1M", 20), (Form.VISIT, None, 20)],
)
def test_the_newest_day(form: Form, resolution: str | None, last: int) -> None:
    """
    Registers read all day long have something of today; one reading a day is published with its day.
    """
    feed = Feed(key="f", zone=PARIS, chunk=Days(7), form=form, resolution=resolution)

    assert feed.last_day(round(AT.timestamp())) == date(2026, 11, last).toordinal()
