SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := crm ledger features models training serving dealcast
WORKERS ?= 2
SERVE   ?= 1
VENDOR := serving/pages/static/vendor
LIBRARIES := $(VENDOR)/.ready

export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True

.PHONY: bench-revenue help install demo test test-crm test-web screenshots lint types quick bench bench-bank bench-rivals soak docs texts lock packages clean bento

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY) $(LIBRARIES)  ## A synthetic company from nothing to scores, a forecast and a running service (SERVE=0: without the service)
	$(BIN)/dealcast --workspace demo-workspace demo $(if $(filter 0,$(SERVE)),--no-serve)

install: $(READY) $(LIBRARIES)  ## The environment in .venv, from hashed requirements, and the libraries of the web pages

# The stamp is older than the requirements whenever they changed: only then is anything installed again.
$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) .ci/preflight.py
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/# via/p' requirements/dev.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# Where there is no npm, a hashed wheel from PyPI brings one. Without these libraries pages show tables instead of charts.
$(LIBRARIES): package-lock.json requirements/node.txt | $(READY)
	command -v npm >/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/node.txt
	PATH="$$PATH:$(PWD)/$(BIN)" npm ci --silent --ignore-scripts
	mkdir -p $(VENDOR)
	cp node_modules/htmx.org/dist/htmx.min.js node_modules/echarts/dist/echarts.common.min.js $(VENDOR)/
	cp node_modules/htmx.org/LICENSE $(VENDOR)/htmx.LICENSE
	cp node_modules/echarts/LICENSE $(VENDOR)/echarts.LICENSE
	cp node_modules/echarts/NOTICE $(VENDOR)/echarts.NOTICE
	touch $@

packages:  # Missing Debian packages of packages.txt: installed as root on Debian, else named
	@.ci/packages

test: packages $(READY) $(LIBRARIES) lint types  ## Everything: lint, types, all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile tests

test-crm: packages $(READY) $(LIBRARIES)  ## The connectors against real CRMs alone (`make test` has all but Creme)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "soak or not soak" tests/crm

test-web: packages $(READY) $(LIBRARIES)  ## The web pages in a real browser alone (`make test` has them too)
	$(BIN)/pytest tests/web

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy $(CODE)

quick: $(READY) lint  ## The tests that take seconds
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow" tests/architecture tests/docs tests/spec tests/unit

bench: $(READY)  ## Each promise of speed and skill, measured on this machine
	for promise in $(filter-out bench_bank bench_revenue bench_rivals,$(basename $(notdir $(wildcard benchmarks/bench_*.py)))); do $(BIN)/python -m benchmarks.$$promise; done

bench-bank: $(READY)  ## Skill on a real pipeline (needs ../shared/data/bank_loans)
	$(BIN)/python -m benchmarks.bench_bank

bench-revenue: $(READY)  ## The quarter's forecast against the truth (hours; exits 1 while a promise is missed)
	$(BIN)/python -m benchmarks.bench_revenue

bench-rivals: $(READY)  ## The win model beside other learners on the same frames (over an hour; makes .venv-rivals)
	$(BIN)/python -m benchmarks.bench_rivals

soak: packages $(READY)  ## The service for half an hour at 70 % of its peak, asked 10,000 odd things, killed 100 times; a real Creme (hours)
	$(BIN)/pytest -m soak tests
	$(BIN)/python -m benchmarks.soak
	DEALCAST_CASES=10000 $(BIN)/pytest --log-cli-level=INFO tests/end_to_end/test_any_request.py
	DEALCAST_KILLS=100 DEALCAST_EVENTS=20000 $(BIN)/pytest --log-cli-level=INFO tests/end_to_end/test_killed.py

bento: $(READY)  ## The service as a Bento, in .make/bento
	BENTOML_HOME=.make/bento $(BIN)/bentoml build

screenshots: packages $(READY) $(LIBRARIES)  ## The pictures of the README, from the real pages of a synthetic company (minutes)
	$(BIN)/python docs/screenshots.py

docs: $(READY)  ## Rewrite the generated reference pages
	$(BIN)/python docs/generate.py

# New texts come into the catalogues untranslated, those of no page any more leave them; a test fails until all are translated.
texts: $(READY)  ## Bring the texts of the web pages into the catalogues of their translations
	$(BIN)/pybabel -q extract -F serving/pages/locale/babel.cfg -k later --no-location --sort-output -o $(VENV)/texts.pot serving/pages
	for po in serving/pages/locale/*/LC_MESSAGES/messages.po; do \
		$(BIN)/pybabel -q update -i $(VENV)/texts.pot -o $$po -l $$(basename $$(dirname $$(dirname $$po))) \
			--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date; \
		sed -i -E '/^"(Report-Msgid|POT-Creation|PO-Revision|Last-Trans|Language-Team|Generated-By)/d' $$po; done

lock: $(READY)  ## Resolve the newest versions into requirements/
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --extra postgresql --extra traces pyproject.toml -o requirements/serve.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header requirements/tryton.in -o requirements/tryton.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header requirements/creme.in -o requirements/creme.txt

clean:  ## Caches and the demo's workspace (not .venv)
	rm -rf demo-workspace .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
