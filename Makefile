# make demo   the exporter with simulated portals: no account, no configuration
# make test   every check there is

SHELL := bash
BIN := .venv/bin
SOURCES := exporter tests
PYTEST ?= -n auto
RULES := $(wildcard prometheus/*rules.yml)
RULE_TESTS := $(wildcard prometheus/tests/*.yml)
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.cache/tools/usr/bin:$(PATH)

.PHONY: demo test lint unit rules schema lock clean

demo: .venv/run.stamp
	$(BIN)/utility-exporter demo

test: lint unit rules

lint: .venv/test.stamp
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict exporter

unit: .venv/test.stamp .cache/tools.stamp
	$(BIN)/pytest $(PYTEST)

rules: .cache/tools.stamp
ifneq ($(RULES),)
	promtool check rules $(RULES)
endif
ifneq ($(RULE_TESTS),)
	promtool test rules $(RULE_TESTS)
endif

schema: .venv/test.stamp
	$(BIN)/python -c 'import json; from exporter.config import schema; print(json.dumps(schema(), indent=2, ensure_ascii=False))' > config.schema.json.new
	mv config.schema.json.new config.schema.json

lock: .venv/test.stamp
	$(BIN)/python -m pip install --quiet uv
	UV=$(BIN)/uv UPGRADE=$(UPGRADE) scripts/lock

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
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
