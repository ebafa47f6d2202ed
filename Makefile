# `make demo` and `make test` set up all they need. Required: Python ≥ 3.11, make, a package registry.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# The demo needs torch alone; the tests also need the other frameworks.
DEMO = $(VENV)/.demo
SERVE = $(VENV)/.serve
DEV = $(VENV)/.dev
DOCS = $(VENV)/.docs
export CONVSCOPE_TEST_DATA ?= $(abspath ../shared/data)
# Threads sleep while they wait for each other: spinning is slow on a machine with other processes.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install demo serve test test-slow test-oldest evidence docs bench check format clean

help:
	@echo "make demo         write a tour of the built-in network to ./convscope-demo/, offline"
	@echo "make serve        open the app in the browser, with the built-in network"
	@echo "make install      install convscope with all optional packages into $(VENV)"
	@echo "make test         run the checks and the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow    run the long tests"
	@echo "make test-oldest  run the fast tests on the oldest supported torch and Keras"
	@echo "make evidence     look at 2,000 odd networks, then at every network of the zoos (hours; resumes)"
	@echo "make bench        compare convscope with other tools (OPTIONS=--gpu: on a GPU, too)"
	@echo "make docs         build the documentation into build/site; runs the code of its pages"
	@echo "make check        run ruff, mypy and import-linter"
	@echo "make format       run ruff format"

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

# Warnings are errors. The variable turns off a notice about mkdocs 2, which pyproject excludes.
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

# Both resume where they stopped, and write their tables into benchmarks/results.
evidence: $(DEV)
	$(BIN)/python benchmarks/odd_networks.py
	$(BIN)/python benchmarks/sweep

test-oldest:
	$(MAKE) VENV=.venv-oldest .venv-oldest/.oldest
	.venv-oldest/bin/python -m pytest -m "not slow"

.venv-oldest/.oldest: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev -c requirements-oldest.txt
	@touch $@

# In a separate environment: each peer is installed in its own folder, and all share one torch.
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
