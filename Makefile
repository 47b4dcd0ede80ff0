# Everything a developer types. `make help` is made from the comments behind the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: setup run test check fmt race help

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %s" % sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,test]'
	@touch $@

setup: $(VENV)/.ready ## make .venv with the project and its tools

run: setup ## start a live demo fleet (ARGS="--duration 20s")
	@$(BIN)/fleet dev $(ARGS)

test: setup ## run the test suite on a real server
	$(BIN)/python -m pytest -n auto -m "not race and not slow and not container" $(ARGS)

check: setup ## formatting, lint, strict types, import rules
	$(BIN)/ruff format --check scheduler tests
	$(BIN)/ruff check scheduler tests
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## format and mend what can be mended
	$(BIN)/ruff format scheduler tests
	$(BIN)/ruff check --fix scheduler tests

race: setup ## contend for the last slots of a nearly full fleet
	$(BIN)/python -m tests.race.last_slots $(ARGS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
