# Two commands do all set-up: `make demo` and `make test`. Needed: Python ≥ 3.11, make, a package registry.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# The built-in network needs torch alone; tests also need the frameworks that convscope looks into.
DEMO = $(VENV)/.demo
SERVE = $(VENV)/.serve
DEV = $(VENV)/.dev
DOCS = $(VENV)/.docs
export CONVSCOPE_TEST_DATA ?= $(abspath ../shared/data)
# Threads that wait for each other sleep: where the cores are shared, spinning costs more than the work.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install demo serve test test-slow test-oldest docs bench check format clean

help:
	@echo "make demo         look inside the built-in network, offline, into ./convscope-demo/"
	@echo "make serve        the microscope in the browser, on the built-in network"
	@echo "make install      convscope with everything it can use, into $(VENV)"
	@echo "make test         checks and tests (under 10 minutes on 2 cores)"
	@echo "make test-slow    the long tests"
	@echo "make test-oldest  the fast tests on the oldest torch and Keras supported"
	@echo "make bench        convscope beside other tools, measured (OPTIONS=--gpu: on a GPU too)"
	@echo "make docs         the documentation, into build/site; runs the code of its pages"
	@echo "make check        ruff, mypy, import-linter"
	@echo "make format       ruff format"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(DEMO): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $@

$(SERVE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo,app,captum]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev
	@touch $@ $(DEMO) $(SERVE)

$(DOCS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[torchvision,captum,app,demo]' --group docs
	@touch $@

install: $(DEV)

demo: $(DEMO)
	$(BIN)/convscope demo

serve: $(SERVE)
	$(BIN)/convscope serve --open

# Warnings are errors. The notice that is switched off is of mkdocs 2, which pyproject excludes.
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

check: $(DEV)
	$(BIN)/ruff check src tests benchmarks docs/tools
	$(BIN)/ruff format --check src tests benchmarks docs/tools
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

test-oldest:
	$(MAKE) VENV=.venv-oldest .venv-oldest/.oldest
	.venv-oldest/bin/python -m pytest -m "not slow"

.venv-oldest/.oldest: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev -c requirements-oldest.txt
	@touch $@

# An environment of its own: each peer lies in a folder of its own in it, and all share one torch.
bench:
	$(MAKE) VENV=.venv-bench .venv-bench/.bench
	.venv-bench/bin/python benchmarks/side_by_side.py $(OPTIONS)

.venv-bench/.bench: pyproject.toml benchmarks/peers.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[torchvision,captum,app,demo]' 'playwright>=1.48'
	$(BIN)/python benchmarks/peers.py
	@touch $@

format: $(DEV)
	$(BIN)/ruff check --fix src tests benchmarks docs/tools
	$(BIN)/ruff format src tests benchmarks docs/tools

clean:
	rm -rf $(VENV) .venv-oldest .venv-bench convscope-demo dist build
