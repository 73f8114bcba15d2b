# Everything a user needs, from a fresh clone. `make run` and `make test` are the two commands of the README.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.docs_installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=

# Which build of torch `make torch` installs: cpu, from PyTorch's own index, or cuda, which is what the Python package index has
# for Linux. TORCH_INDEX is the address of another index that has it (a mirror); empty: where pip looks by itself.
BUILD            ?= cpu
TORCH_INDEX_cpu  := https://download.pytorch.org/whl/cpu
TORCH_INDEX_cuda :=
TORCH_INDEX      ?= $(TORCH_INDEX_$(BUILD))

# Jobs find the environment's python and snakemake first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup torch soap all run forecast test lint profiles report dag manual docs

help:
	@echo "make run       make the environment, run the default campaign (ARGS='-n' for a dry run)"
	@echo "make forecast  print what the default campaign will cost (ARGS='--configfile mine.yaml' for another)"
	@echo "make test      run the tests (ARGS='tests/unit' for a part)"
	@echo "make setup     make the environment alone"
	@echo "make torch     add what neural networks and potentials need (BUILD=cuda for a GPU, TORCH_INDEX=... for a mirror)"
	@echo "make soap      add what the descriptor soap needs"
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
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

torch: $(STAMP)-torch

# torch by itself first, so that what its own index lacks comes from the package index.
$(STAMP)-torch: requirements-torch.lock $(STAMP)
	@case "$(BUILD)" in cpu|cuda) ;; *) echo "BUILD=$(BUILD): give cpu or cuda, or the address of an index by TORCH_INDEX=..."; exit 1;; esac
ifneq ($(strip $(TORCH_INDEX)),)
	$(PIP) --no-deps --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements-torch.lock) || { echo \
	  "$(TORCH_INDEX) gives no torch: name a mirror (make torch TORCH_INDEX=...), or take the build for GPUs (make torch BUILD=cuda)"; exit 1; }
endif
	$(PIP) -r requirements-torch.lock
	@touch $@

soap: $(STAMP)-soap

$(STAMP)-soap: requirements-soap.lock $(STAMP)
	$(PIP) -r requirements-soap.lock
	@touch $@

# What tests, linters and types ask for: everything but the networks of other packages.
all: $(STAMP)-all

$(STAMP)-all: requirements-test.lock $(STAMP)-torch $(STAMP)-soap
	$(PIP) -r requirements-test.lock
	@touch $@

run: setup
	$(BIN)/snakemake $(ARGS)

forecast: setup
	$(BIN)/snakemake forecast $(ARGS)

report: setup
	$(BIN)/snakemake --report results/water/report.html

dag: setup
	$(BIN)/snakemake dag_pictures $(ARGS)

test: all
	$(BIN)/python -m pytest $(ARGS)

lint: all
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
