"""compose.yaml and what it mounts: pinned, read-only, nobody's root, and every file in its place."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.boards.grafana import FOLDER, ROOT

STACK = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ALLOWED_TO_BE_MISSING = {"./config"}
"""The user's own; an empty folder will do for the demo."""
each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_four_are_there():
    """
    Exporter, Prometheus, Alertmanager and Grafana.
    """

    assert set(SERVICES) == {"exporter", "prometheus", "alertmanager", "grafana"}
    assert SERVICES["exporter"]["build"] == "."


@each_service
def test_a_service_is_kept_small(name: str):
    """
    Read-only, not root, without privileges, with a health check, reachable from this machine alone.
    """
    service = SERVICES[name]

    assert service["read_only"] is True
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@each_service
def test_an_image_is_pinned(name: str):
    """
    By an exact version or a digest; the exporter's own is built here.
    """
    image = SERVICES[name]["image"]

    assert name == "exporter" or re.search(r":v?\d+\.\d+\.\d+$|@sha256:[0-9a-f]{64}$", image)


@each_service
def test_what_is_mounted_exists(name: str):
    """
    A path is in the repository and mounted read-only, or is a volume that is declared.
    """
    for mount in SERVICES[name]["volumes"]:
        source, _, mode = mount.partition(":")[0], *mount.rpartition(":")[1:]
        if source.startswith("."):
            assert mode == "ro"
            assert source in ALLOWED_TO_BE_MISSING or (ROOT / source).exists()
        else:
            assert source in STACK["volumes"]


def test_the_demo_by_default_and_ones_own_by_a_word():
    """
    One variable decides between the demo and the configuration in config/.
    """
    variables = re.findall(r"\$\{(\w+)", " ".join(SERVICES["exporter"]["command"]))

    assert SERVICES["exporter"]["command"][0] == "${UTILITY_EXPORTER:-demo}"
    assert variables == ["UTILITY_EXPORTER"]


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_the_command_line_is_understood(command: str):
    """
    Both words take the flags that compose.yaml gives.
    """
    from exporter.__main__ import parser

    options = parser().parse_args([command, *SERVICES["exporter"]["command"][1:]])

    assert options.storage_path == Path("/data")
    assert [str(address) for address in options.addresses] == [":10230"]


def test_grafana_finds_dashboards_and_prometheus():
    """
    The provider's path is where the dashboards are mounted, the datasource is the service, its interval the scrapes'.
    """
    provisioning = ROOT / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "utilities.yaml").read_text())["providers"][0]
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yaml").read_text())
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    assert (FOLDER / Path(home).name).exists()
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_hosts_in_prometheus_are_services():
    """
    What Prometheus scrapes, reads and warns are the names of services.
    """
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yaml").read_text())
    targets = [job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]]
    alertmanager = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0]
    hosts = {address.partition(":")[0] for address in (*targets, alertmanager)} - {"localhost"}

    assert hosts == {"exporter", "alertmanager"}
    assert config["remote_read"][0]["url"] == "http://exporter:10230/api/v1/read"
    assert config["remote_read"][0]["read_recent"] is True
    assert all((ROOT / "prometheus" / name).exists() for name in config["rule_files"])
