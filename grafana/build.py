"""Writes the dashboards: `python -m grafana.build`."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.electricity import electricity
from grafana.exporter import exporter
from grafana.fleet import fleet
from grafana.home import home
from grafana.water_and_gas import water_and_gas

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {
    "home": home,
    "electricity": electricity,
    "water-and-gas": water_and_gas,
    "fleet": fleet,
    "exporter": exporter,
}


def text(dashboard: Dashboard) -> str:
    """Return a dashboard's file."""
    return json.dumps(json.loads(JSONEncoder().encode(dashboard)), indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write every dashboard's file."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(text(make()))


if __name__ == "__main__":
    write()
