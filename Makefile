# `make help` lists the targets. Everything lives in .venv; nothing is installed outside it.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
ARGS ?=
# Tests wait more than they compute.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 1) + 1)

# Settings that would send pip's work elsewhere than into the virtualenv.
CLEAN := env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_REQUIRE_VIRTUALENV \
	-u PIP_NO_DEPS -u PIP_DRY_RUN -u PYTHONHOME -u PYTHONPATH

# PYTHON=... on the command line wins; otherwise the first interpreter that is new enough.
NEW_ENOUGH := import sys; raise SystemExit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$p; break; fi; done)

.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt race soak bench pins dist

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(STAMP) ## make .venv with the fleet command in it (again only when the pins change)

# Wheels whose hashes are known, and nothing else: what an index or a mirror has put in their place is refused.
HASHED := $(CLEAN) PIP_DISABLE_PIP_VERSION_CHECK=1
INSTALL := -m pip install --quiet --no-deps --only-binary :all: --require-hashes --requirement

$(STAMP): pyproject.toml deploy/pins/all.txt
	@test -n '$(PYTHON)' || { echo 'python 3.11 or newer is needed, none is on PATH' >&2; exit 1; }
	@rm -f $@
	@echo 'making $(VENV), which takes a minute or two'
	$(CLEAN) $(PYTHON) -m venv $(VENV)
	$(HASHED) $(BIN)/python $(INSTALL) deploy/pins/all.txt
	$(HASHED) $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## start a server, three replicas and a demo fleet (ARGS="--duration 20s")
	@$(BIN)/fleet dev $(ARGS)

test: setup ## the fast suite, in parallel (ARGS="-k lease")
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not (race or bench or soak or slow or container)' $(ARGS)

check: setup ## what CI asks beyond the tests: format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

race: setup ## many processes contend for the last slots of a fleet
	$(BIN)/python -m tests.race $(ARGS)

soak: setup ## a million claims while replicas, agents and Redis are killed (ARGS="--minutes 1")
	$(BIN)/python -m tests.soak $(ARGS)

bench: setup $(VENV)/peers/.stamp ## the table of figures, measured here, beside peers in .venv/peers (ARGS="--rows a,d")
	@$(BIN)/fleet bench $(ARGS)

# Other projects to measure beside, which must not choose our dependencies: without them their lines are missing.
$(VENV)/peers/.stamp: scheduler/bench/peers/requirements.txt $(STAMP)
	@rm -f $@
	$(CLEAN) $(PYTHON) -m venv --clear $(VENV)/peers
	$(CLEAN) $(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--requirement scheduler/bench/peers/requirements.txt && touch $@ || echo 'no peers: row c will miss them' >&2

UV := $(VENV)/pins/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --no-annotate \
	--generate-hashes --custom-compile-command 'make pins' --constraints constraints.txt

pins: ## the hashes of what constraints.txt pins, of every wheel for every system, to deploy/pins
	$(CLEAN) $(PYTHON) -m venv $(VENV)/pins
	$(HASHED) $(VENV)/pins/bin/python -m pip install --quiet uv==0.13.9
	$(UV) pyproject.toml --all-extras --output-file deploy/pins/all.txt
	$(UV) pyproject.toml --output-file deploy/pins/run.txt
	echo hatchling | $(UV) - --output-file deploy/pins/build.txt

DIST ?= dist
RUN := $(VENV)/run
# The time in what is built is that of the commit.
COMMITTED = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct)

dist: setup ## the wheel, the same bytes each time, and the SBOM of what runs it, in dist/ (DIST=folder)
	rm -rf $(DIST)
	$(COMMITTED) $(BIN)/python -m hatchling build -t wheel -d $(DIST)
	$(CLEAN) $(PYTHON) -m venv --clear $(RUN)
	$(HASHED) $(RUN)/bin/python $(INSTALL) deploy/pins/run.txt
	$(HASHED) $(RUN)/bin/python -m pip install --quiet --no-deps --no-index $(DIST)/*.whl
	$(HASHED) $(RUN)/bin/python -m pip uninstall --quiet --yes pip setuptools
	$(COMMITTED) $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file $(DIST)/fleet-scheduler.cdx.json $(RUN)/bin/python
