"""The manifests for Kubernetes: that they fit each other, the image, the program and the rules."""

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.cli import build_parser
from exporter.config.loader import load_config

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: dict[str, dict[str, Any]] = {
    made["kind"]: made for name in KUSTOMIZATION["resources"] for made in [yaml.safe_load((FOLDER / name).read_text())]
}
SECRET = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())
LABELS = {"app.kubernetes.io/name": "utility-exporter"}
POD = OBJECTS["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
OPTIONS = build_parser().parse_args(CONTAINER["args"])


def test_every_manifest_is_named():
    """
    The kustomization takes every file of the folder, but for itself, the configuration and the example of a secret.
    """
    files = {file.name for file in FOLDER.iterdir()}

    assert files - set(KUSTOMIZATION["resources"]) == {"kustomization.yaml", "config.yaml", "secret.example.yaml"}
    assert OBJECTS.keys() == {
        *("Namespace", "StatefulSet", "Service", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"),
    }
    assert OBJECTS["Namespace"]["metadata"]["name"] == KUSTOMIZATION["namespace"] == SECRET["metadata"]["namespace"]


def test_selectors_find_their_labels():
    """
    StatefulSet, Service, NetworkPolicy and ServiceMonitor mean the same pod.
    """
    spec = {kind: made.get("spec", {}) for kind, made in OBJECTS.items()}

    assert spec["StatefulSet"]["template"]["metadata"]["labels"] == LABELS
    assert spec["StatefulSet"]["selector"]["matchLabels"] == LABELS
    assert spec["Service"]["selector"] == LABELS
    assert spec["NetworkPolicy"]["podSelector"]["matchLabels"] == LABELS
    assert spec["ServiceMonitor"]["selector"]["matchLabels"] == OBJECTS["Service"]["metadata"]["labels"] == LABELS
    assert spec["StatefulSet"]["serviceName"] == OBJECTS["Service"]["metadata"]["name"]


def test_ports_meet():
    """
    From the image's port to the scrape, each names the one before.
    """
    (port,), (outer,) = CONTAINER["ports"], OBJECTS["Service"]["spec"]["ports"]
    (endpoint,), (incoming,) = OBJECTS["ServiceMonitor"]["spec"]["endpoints"], OBJECTS["NetworkPolicy"]["spec"]["ingress"]

    assert f"EXPOSE {port['containerPort']}\n" in (ROOT / "Dockerfile").read_text()
    assert outer["targetPort"] == port["name"]
    assert endpoint["port"] == outer["name"]
    assert incoming["ports"] == [{"port": port["containerPort"], "protocol": "TCP"}]
    assert {CONTAINER[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")} == {port["name"]}


def test_probes_ask_what_they_should():
    """
    A portal that is down restarts nothing.
    """
    paths = {kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}

    assert paths == {"startup": "/-/healthy", "liveness": "/-/healthy", "readiness": "/-/ready"}


def test_the_pod_is_kept_small():
    """
    It is what the namespace asks for (the Pod Security Standard "restricted"), and its root is read-only besides.
    """
    user = int(re.search(r"(?m)^USER (\d+):\1$", (ROOT / "Dockerfile").read_text())[1])  # type: ignore[index]

    assert OBJECTS["Namespace"]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_volumes_are_where_the_program_reads():
    """
    The flags name what is mounted: the configuration, and a claim for the ledger; all else is read-only.
    """
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    (claim,) = OBJECTS["StatefulSet"]["spec"]["volumeClaimTemplates"]

    assert OPTIONS.command == "serve"
    assert str(OPTIONS.config_file.parent) == MOUNTS["config"]["mountPath"]
    assert str(OPTIONS.storage_path) == MOUNTS[claim["metadata"]["name"]]["mountPath"]
    assert OBJECTS["StatefulSet"]["spec"]["replicas"] == 1
    assert {name for name, mount in MOUNTS.items() if not mount.get("readOnly")} == {"data"}
    assert KUSTOMIZATION["configMapGenerator"] == [{"name": "utility-exporter", "files": [OPTIONS.config_file.name]}]
    assert volumes["config"]["configMap"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
    assert volumes["secrets"]["secret"]["secretName"] == SECRET["metadata"]["name"]


def test_the_configuration_is_good(tmp_path):
    """
    The program accepts it, with the keys of the Secret as the files that it names; no key is left over.
    """
    for name, value in SECRET["stringData"].items():
        (tmp_path / name).write_text(value)
    text = (FOLDER / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace(MOUNTS["secrets"]["mountPath"], str(tmp_path)))

    assert load_config(tmp_path / "config.yaml").accounts
    assert set(re.findall(rf"{MOUNTS['secrets']['mountPath']}/(\S+)", text)) == SECRET["stringData"].keys()


def test_the_image_is_of_this_version():
    """
    The image that the kustomization renames is the pod's, at the project's version.
    """
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())[1]  # type: ignore[index]

    assert [(image["name"], image["newTag"]) for image in KUSTOMIZATION["images"]] == [(CONTAINER["image"], version)]


def test_rules_are_those_of_prometheus():
    """
    rules.yaml is as `make manifests` writes it, and holds every group of prometheus/, in that order.
    """
    script = runpy.run_path(str(ROOT / "scripts" / "manifests.py"))
    groups = [yaml.safe_load((ROOT / "prometheus" / name).read_text())["groups"] for name in ("settings.yaml", "rules.yaml")]

    assert (FOLDER / "rules.yaml").read_text() == script["format_manifest"]()
    assert OBJECTS["PrometheusRule"]["spec"]["groups"] == [*groups[0], *groups[1]]


def test_promtool_accepts_the_rules(tmp_path):
    """
    What the operator hands to Prometheus is what Prometheus takes.
    """
    (tmp_path / "rules.json").write_text(json.dumps(OBJECTS["PrometheusRule"]["spec"]))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.json"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["StatefulSet", "Service", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"])
def test_one_name_for_all(kind):
    """
    Every object has the one name and label.
    """

    assert OBJECTS[kind]["metadata"] == {"name": "utility-exporter", "labels": LABELS}


def test_the_job_is_the_one_of_the_alert():
    """
    The alert that the exporter is gone looks for the job that the ServiceMonitor gives.
    """
    (endpoint,) = OBJECTS["ServiceMonitor"]["spec"]["endpoints"]
    (job,) = [rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"]
    alerts = {rule.get("alert"): rule["expr"] for group in OBJECTS["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]}

    assert f'up{{job="{job}"}}' in alerts["UtilityExporterDown"]
