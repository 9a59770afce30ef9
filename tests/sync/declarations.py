"""Feeds as the portals declare them."""

from dataclasses import replace
from datetime import time, timedelta
from zoneinfo import ZoneInfo

from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import CemConfig
from exporter.portals.enedis.account import Enedis
from exporter.portals.enedis.config import EnedisConfig
from exporter.portals.fluvius.account import Fluvius
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.water_link.account import WaterLink
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.sync.feeds import Days, Feed, Form

BRUSSELS, PARIS, PRAGUE = ZoneInfo("Europe/Brussels"), ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Prague")
YEARS = timedelta(days=1096)

WATER = WaterLink(
    WaterLinkConfig(
        name="home", username="ada@example.com", password="invented", meters=["204417", "204418"], history_days=YEARS.days
    )
).list_feeds()
FLUVIUS = [
    Feed(key="days:e1", zone=BRUSSELS, chunk=Days(31), usage_points=("e1",), resolution="P1D", reach=YEARS),
    Feed(
        key="days:g1", zone=BRUSSELS, chunk=Days(31), usage_points=("g1",), resolution="P1D", reach=YEARS, day_start=time(6),
        delay=timedelta(days=3), recheck=timedelta(days=100),
    ),
    Feed(key="hours:e1", zone=BRUSSELS, chunk=Days(1), usage_points=("e1",), resolution="PT1H", reach=YEARS, priority=1),
]  # fmt: skip
FLUVIUS_FEEDS = Fluvius(
    FluviusConfig(
        name="home",
        portal="fluvius",
        username="a@example.com",
        password="p",
        meters=[
            {"ean": "541448820000000017", "serial": "1SAG3200000018", "commodity": "electricity", "intervals": True},
            {"ean": "541448820000000031", "serial": "7FLO2100000031", "commodity": "gas"},
        ],
    )
).list_feeds()
FLUVIUS_ACCOUNT = [feed for feed in FLUVIUS_FEEDS if feed.form is Form.INTERVAL]
"""What the portal itself declares; the messy portal has no months."""
ENEDIS_ACCOUNT = Enedis(
    EnedisConfig(
        name="maison",
        portal="enedis",
        access="dataconnect",
        client_id="c",
        client_secret="made-up",
        usage_points=[{"prm": "09000000000017", "production": True}, {"prm": "22500000000034"}],
    )
).list_feeds()
"""What the portal itself declares: days, highest powers, registers and curves of two usage points, one of them a producer."""
ENEDIS = [feed for feed in ENEDIS_ACCOUNT if feed.key.startswith(("consumption_days", "consumption_curve"))]
CEM = [
    Feed(
        key=f"index:{one}", zone=PRAGUE, chunk=Days(7), usage_points=(one,), form=Form.INDEX, resolution=None,
        reach=timedelta(days=365),
    )
    for one in ("c1", "c2")
]  # fmt: skip
CEM_ACCOUNT = [
    replace(feed, usage_points=("c1",))
    for feed in Cem(CemConfig(name="flats", portal="cem", username="u", password="p")).list_feeds()
]
"""What the portal itself declares; the messy portal has one counter."""
