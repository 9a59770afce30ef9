# make demo   the exporter with simulated portals: no account, no configuration
# make test   every check there is
# make bench  every measurement, into docs/performance.md

SHELL := bash
BIN := .venv/bin
SOURCES := exporter grafana docs examples tests benchmarks scripts
# Tests that share a Prometheus stay together.
PYTEST ?= -n auto --dist loadgroup
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.cache/tools/usr/bin:$(PATH)

.PHONY: demo test bench lint unit rules boards schema reference protobuf recording manifests image dist lock clean

demo: .venv/run.stamp
	$(BIN)/utility-exporter demo

test: lint unit

# BENCH=--largest measures a scrape of a million series too.
bench: .venv/test.stamp .cache/tools.stamp
	$(BIN)/python -m benchmarks $(BENCH)

lint: .venv/test.stamp
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy --strict exporter grafana docs examples/brook/brook_water

unit: .venv/test.stamp .cache/tools.stamp
	$(BIN)/pytest $(PYTEST)

# The tests do this too.
rules: .cache/tools.stamp
	promtool check rules prometheus/rules.yaml prometheus/settings.yaml
	promtool test rules prometheus/*.test.yaml

# The dashboards' files anew, after their code changed.
boards: .venv/test.stamp
	$(BIN)/python -m grafana.build

schema: .venv/test.stamp
	$(BIN)/python -c 'import json; from exporter.config.loader import build_schema; print(json.dumps(build_schema(), indent=2, ensure_ascii=False))' > config.schema.json.new
	mv config.schema.json.new config.schema.json

# The tables and excerpts in docs/ anew, after what they are made of changed.
reference: .venv/test.stamp
	$(BIN)/python -m docs.build

# The classes of remote read's and remote write's messages anew, after remote.proto changed.
protobuf: .venv/test.stamp
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. exporter/history/remote.proto

# A recording becomes a test: FILE=report-home.json
recording: .venv/test.stamp
	$(BIN)/python -m tests.recording.replay $(FILE)

# What Kubernetes is told, anew after the rules changed.
manifests: .venv/test.stamp
	$(BIN)/python scripts/manifests.py

# Needs docker, or ENGINE=podman.
image:
	scripts/image

# Wheel, sdist and bill of materials, checked and tried: dist/
dist: .venv/test.stamp
	scripts/dist

lock: .venv/test.stamp
	$(BIN)/python -m pip install --quiet uv
	UV=$(BIN)/uv UPGRADE=$(UPGRADE) scripts/lock

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# Made anew when what they are made of has changed.
.venv/run.stamp: pyproject.toml requirements/run.txt scripts/environment
	scripts/environment run
	touch $@

.venv/test.stamp: pyproject.toml requirements/test.txt scripts/environment
	scripts/environment test
	touch .venv/run.stamp $@

.cache/tools.stamp: scripts/tools
	mkdir -p .cache
	scripts/tools promtool prometheus prometheus-alertmanager victoria-metrics chromium
	touch $@
