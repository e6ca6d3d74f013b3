# One command each, on a fresh machine. VENV may name an environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

# Tests run in two processes, since most keep one core busy; these are about half of them. Threads that wait leave the
# core to the other process.
FIRST = tests/archives tests/cli tests/data tests/evaluation

.PHONY: demo test test-light test-all test-first test-others gpu soak lint docs dist clean

demo: $(VENV)/installed
	$(BIN)/python tools/demo.py

test: $(VENV)/installed-parity
	$(MAKE) --jobs=2 test-first test-others MARKED='not slow'

# Without TensorFlow, Sonnet, Ray and Selenium: tests that need them are skipped, each with its reason.
test-light: $(VENV)/installed-test
	$(MAKE) --jobs=2 test-first test-others MARKED='not slow'

test-all: $(VENV)/installed-parity
	$(MAKE) --jobs=2 test-first test-others

test-first:
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m '$(MARKED)' $(FIRST)

test-others:
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m '$(MARKED)' tests $(FIRST:%=--ignore=%)

# With PYTHON as it is: nothing is installed. Tests whose packages are missing are skipped and counted, by name.
gpu:
	$(PYTHON) -m pytest -p tests.helpers.missing_packages -m "not slow" -k cuda
	$(PYTHON) benchmarks/gpu.py --out gpu.json

soak: $(VENV)/installed-parity
	$(BIN)/python -m tests.soak

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Any warning is an error, such as a link that leads nowhere.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -E -W --keep-going -q docs build/docs

# What a release uploads: checked, and with the sample inside.
dist: $(VENV)/installed-test
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m zipfile --list dist/*.whl | grep -q heldout_torch/sample/.*/aux_arrays.npz
	tar --list --file dist/*.tar.gz | grep -q heldout_torch/sample/.*/aux_arrays.npz

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[report]"
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/installed-parity: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --editable ".[test,parity]"
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
