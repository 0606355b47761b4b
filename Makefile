# Every target sets up what it needs: `make test` works in a fresh clone.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FILE ?= experiments/sdss.toml
RAIL_VENV := .venv-rail
RAIL_STAMP := $(RAIL_VENV)/.installed
RAIL_VERSIONS := experiments/benchmarks/rail-constraints.txt
RAIL_SETS := lsst-dc2 sdss-mgs
TRIALS ?= 30

# LightGBM and torch otherwise wait busily for each other on a shared machine.
export OMP_WAIT_POLICY := PASSIVE
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help setup experiment test slow check lint format types ui data benchmark timings clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment with the tested versions

# torch first, by its exact version: a range would let pip fetch a build of several GB.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

experiment: $(STAMP) ## search, test, track and export the models of FILE (experiments/sdss.toml)
	$(BIN)/photoz experiment $(FILE)

# A file per worker; one thread per worker, so that two do not fight for the cores.
test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow'

slow: $(STAMP) ## run the tests that need servers, a browser or minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

check: lint types test ## lint, types and tests

lint: $(STAMP) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

ui: $(STAMP) ## open MLflow on mlruns/ at http://127.0.0.1:5000
	$(BIN)/photoz ui

data: $(STAMP) ## fetch the named data sets
	$(BIN)/photoz data

timings: $(STAMP) ## time the fits of 10,000 mock galaxies, and scoring with each family
	$(BIN)/python experiments/benchmarks/fit_mock.py build/benchmark
	for family in forest boosting network; do echo $$family; \
	    $(BIN)/python experiments/benchmarks/scoring.py build/benchmark/$$family; done

$(RAIL_STAMP): pyproject.toml constraints.txt $(RAIL_VERSIONS)
	$(PYTHON) -m venv $(RAIL_VENV)
	$(RAIL_VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(RAIL_VENV)/bin/python -m pip install --quiet -c constraints.txt -c $(RAIL_VERSIONS) \
	    -e '.[benchmark]'
	@touch $@

experiments/results/%/report.json: experiments/%.toml | $(STAMP)
	$(BIN)/photoz experiment $<

benchmark: $(RAIL_STAMP) $(RAIL_SETS:%=experiments/results/%/report.json) ## compare with RAIL: hours, but it goes on where it stopped
	$(RAIL_VENV)/bin/python -m experiments.benchmarks.rail run --sets $(RAIL_SETS) --trials $(TRIALS)
	$(RAIL_VENV)/bin/python -m experiments.benchmarks.rail table --sets $(RAIL_SETS)

clean: ## remove what the targets made, but no data and no runs
	rm -rf $(VENV) $(RAIL_VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
