"""Write deploy/kubernetes/rules.yaml, the PrometheusRule, from the rules in prometheus/: `make manifests`."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "deploy" / "kubernetes" / "rules.yaml"
SOURCES = [ROOT / "prometheus" / name for name in ("settings.yaml", "rules.yaml")]
HEADER = """\
# Made of prometheus/settings.yaml (yours to change) and prometheus/rules.yaml, which say why: `make manifests` writes it anew.
"""


def build_prometheus_rule() -> dict[str, Any]:
    """Return the PrometheusRule object with the groups of all rules."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "utility-exporter", "labels": {"app.kubernetes.io/name": "utility-exporter"}},
        "spec": {"groups": [group for file in SOURCES for group in yaml.safe_load(file.read_text())["groups"]]},
    }


def format_manifest() -> str:
    """Return the object as YAML."""
    return HEADER + yaml.safe_dump(build_prometheus_rule(), sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    TARGET.write_text(format_manifest())
