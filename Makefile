# Needs only Python 3.11+ and make: the targets make .venv, install what they need, and run.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test soak test-lowest lint format bench bench-registry bench-timing bench-content bench-scale bench-evidence bench-claude bench-replay bench-api clean docs docs-picture

demo: $(STAMP)  ## watch a model being trained, compared, promoted
	PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: lint  ## all checks
	$(BIN)/python -m pytest -n 2 --dist worksteal

soak: $(STAMP)  ## what takes long: hundreds of kills, on both databases
	$(BIN)/python -m pytest -n 2 --dist worksteal -m soak

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-picture: $(STAMP)  ## record the demo again for the picture in README
	$(BIN)/python docs/record_terminal.py

bench: $(STAMP)  ## how long start-up and a run take, as ratios
	$(BIN)/python -m benchmarks.startup

clean:
	rm -rf .venv

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP)

test-lowest:  ## the tests with the lowest version of every dependency, those of `semantic` aside
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PYTHON) -c 'import re, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		extras = [line for name, lines in project["optional-dependencies"].items() if name != "semantic" for line in lines]; \
		bounds = [re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in project["dependencies"] + extras]; \
		print("\n".join(f"{bound[1]}=={bound[2]}" for bound in bounds))' > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable . --group dev
	.venv-lowest/bin/python -m pytest -n 2 --dist worksteal

bench-registry: $(STAMP)  ## whether looking and promoting take longer with 10,000 versions
	$(BIN)/python -m benchmarks.registry

DATA ?= ../shared/data
OPTIONS ?= {}
bench-timing: $(STAMP)  ## how well the timing algorithms forecast every CSV of the folder DATA
	$(BIN)/python -m benchmarks.timing --data '$(DATA)' --options '$(OPTIONS)'

MODEL ?=
bench-content: $(STAMP)  ## what trivial forecasts of the texts of every CSV of the folder DATA are measured at
	$(BIN)/python -m benchmarks.content --data '$(DATA)' --model '$(MODEL)'

bench-scale: $(STAMP)  ## how long a run takes, and how much memory, with 20,000 and 1,000,000 posts
	$(BIN)/python -m benchmarks.scale

bench-evidence: $(STAMP)  ## how often a comparison promotes what is no better, and what is
	$(BIN)/python -m benchmarks.evidence

bench-claude: $(STAMP)  ## how long twenty forecasts by claude_api take
	$(BIN)/python -m benchmarks.claude

bench-replay: $(STAMP)  ## how long a replay of six years takes, and how much memory, on a CSV of the folder DATA
	$(BIN)/python -m benchmarks.replay --data '$(DATA)'

bench-api: $(STAMP)  ## how the REST API bears 50 connections while a retrain runs, with 10 and with 10,000 versions
	$(BIN)/python -m benchmarks.api
