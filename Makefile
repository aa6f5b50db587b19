# Needs only Python 3.11+ and make: the targets make .venv, install what they need, and run.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint format bench clean

demo: $(STAMP)  ## watch a model being trained, compared, promoted
	PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: lint  ## all checks
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## how long start-up and a run take, as ratios
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf .venv

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP)
