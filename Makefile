# On a fresh machine, `make quickstart` and `make test` need nothing else.
# PYTHON is any Python 3.11 or later; VENV is made from it.
PYTHON ?= python3
VENV ?= .venv
BACKENDS_VENV ?= .venv-backends
BACKENDS ?= jax torch
OUTPUT ?= saved_models/quickstart
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check
# One process per core; a process that is done takes over tests from the others.
PYTEST_FLAGS := -n auto --dist worksteal
# Names and options of `make environments`, such as ENVIRONMENTS="--quick oldest".
ENVIRONMENTS ?=
# Sections and options of `make bench`, such as BENCH="train --rounds 9 --peers torch".
BENCH ?=
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help quickstart test coverage lint types bench counts docs backends wheel environments check clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.train  ## Train on the embedded digits, evaluate, export and report
	$(BIN)/keras-resnet quickstart --output $(OUTPUT)

test: $(VENV)/.test  ## Run the whole test suite (TensorFlow)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

coverage: $(VENV)/.test  ## Run the suite and report line and branch coverage by file
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --cov --cov-report=term:skip-covered --cov-report=html

lint: $(VENV)/.test  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test  ## Check types
	$(BIN)/mypy

bench: $(VENV)/.test  ## Compare speed with other libraries; BENCH="train --quick" selects
	$(BIN)/python -m benchmarks compare $(BENCH)

counts: $(VENV)/.test  ## Compare graph operations, layers and file sizes with benchmarks/counts.json
	$(BIN)/python -m benchmarks counts

docs: $(VENV)/.docs  ## Build the documentation site in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

backends: $(BACKENDS_VENV)/.done  ## Run the library's tests on JAX and on PyTorch
	for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend $(BACKENDS_VENV)/bin/python -m pytest $(PYTEST_FLAGS) \
			tests/keras_resnet -m "not slow" || exit 1; \
	done

wheel: $(VENV)/.test  ## Build the wheel and try it in an empty environment
	bash tests/wheel.sh $(BIN)/python $(PYTHON)

environments:  ## Check oldest, Colab's and newest versions on Python 3.11 to 3.13
	$(PYTHON) environments/check.py $(ENVIRONMENTS)

check: lint types counts docs test backends wheel  ## All of the above but the environments

clean:  ## Remove environments and caches, not runs
	rm -rf $(VENV) $(BACKENDS_VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[train,export]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[docs]'
	@touch $@

# PyTorch first, so that pip keeps a CPU build if it finds one.
$(BACKENDS_VENV)/.done: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(BACKENDS_VENV)
	$(BACKENDS_VENV)/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt torch
	$(BACKENDS_VENV)/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[backends]'
	@touch $@
