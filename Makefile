# Everything a user needs, from a fresh clone. `make run` and `make test` are the two commands of the README.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.docs_installed
ARGS   ?=

# Jobs find the environment's python and snakemake first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run forecast test lint profiles report dag manual docs

help:
	@echo "make run       make the environment, run the default campaign (ARGS='-n' for a dry run)"
	@echo "make forecast  print what the default campaign will cost (ARGS='--configfile mine.yaml' for another)"
	@echo "make test      run the tests (ARGS='tests/unit' for a part)"
	@echo "make setup     make the environment alone"
	@echo "make report    write the report of the default campaign"
	@echo "make dag       draw the graphs of rules and of the last iteration's jobs (results/<name>/figures/dag_*.svg)"
	@echo "make lint      ruff, snakefmt, snakemake --lint, mypy"
	@echo "make profiles  link profiles/* into the user's Snakemake configuration"
	@echo "make docs      build the documentation as a site (build/site/index.html)"
	@echo "make manual    write config/README.md and config/schema.json from the configuration models"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Quarry needs Python 3.11 or later (PYTHON=... make setup)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: the package python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: setup
	$(BIN)/snakemake $(ARGS)

forecast: setup
	$(BIN)/snakemake forecast $(ARGS)

report: setup
	$(BIN)/snakemake --report results/water/report.html

dag: setup
	$(BIN)/snakemake dag_pictures $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/mypy

profiles: setup
	$(BIN)/python workflow_scripts/quarry/campaign/link_profiles.py profiles

manual: setup
	PYTHONPATH=workflow_scripts $(BIN)/python -m quarry.config.manual

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c requirements.lock -e '.[docs]'
	@touch $(DOCS)

docs: $(DOCS)
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/site
	@echo "build/site/index.html"
