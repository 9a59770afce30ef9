"""compose.yaml and what it mounts: pinned, read-only, nobody's root, and every file in its place."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.boards.grafana_queries import FOLDER, ROOT

STACK = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
HEALTHY_BY_ITSELF = {"exporter"}
"""Whose image has a health check."""
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
    assert ("healthcheck" in service) == (name not in HEALTHY_BY_ITSELF)
    assert service.get("healthcheck", {"test": ["CMD"]})["test"][0] == "CMD"
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
    A path is in the repository or a variable's, and mounted read-only, or it is a volume that is declared.
    """
    for mount in SERVICES[name]["volumes"]:
        if mount.startswith((".", "${")):
            assert mount.endswith(":ro")
            assert mount.startswith("${") or (ROOT / mount.partition(":")[0]).exists()
        else:
            assert mount.partition(":")[0] in STACK["volumes"]


def test_the_exporter_is_as_its_image_says():
    """
    One variable names the folder of the configuration; command and health check are the image's, on the paths mounted here.
    """
    exporter = SERVICES["exporter"]
    image = (ROOT / "Dockerfile").read_text()

    assert exporter.keys() & {"command", "entrypoint", "environment", "tmpfs"} == set()
    assert exporter["volumes"] == ["${UTILITY_EXPORTER_CONFIG:-./config}:/etc/utility-exporter:ro", "readings:/data"]
    assert f"USER {exporter['user']}\n" in image
    assert "VOLUME /data\n" in image
    assert "EXPOSE 10230\n" in image
    assert '"--config.file=/etc/utility-exporter/config.yaml", "--storage.path=/data"' in image


def test_compose_accepts_it():
    """
    docker compose finds no fault, and puts the variable in.
    """
    plugin = Path("/usr/libexec/docker/cli-plugins/docker-compose")
    command = [found] if (found := shutil.which("docker-compose") or (str(plugin) if plugin.exists() else None)) else None
    if command is None:
        pytest.skip("neither docker-compose nor docker's compose plugin is on this machine")
    done = subprocess.run(
        [*command, "--file", str(ROOT / "compose.yaml"), "config"],
        env=os.environ | {"UTILITY_EXPORTER_CONFIG": "/etc/mine"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    exporter = yaml.safe_load(done.stdout)["services"]["exporter"]
    assert "/etc/mine" in str(exporter["volumes"])


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
