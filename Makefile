# `make demo` and `make test` need nothing but this folder: they set up the rest.

VENV := .venv/bin

# Every command would compile all of the house again, for a second each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench proof lock clean

help:           ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

setup:          ## system packages, virtual environment, locked dependencies
	@scripts/setup

demo: setup     ## forty letters, from the inbox to printed replies
	@# Exit 5 says that items are held for review: two of the forty are.
	@$(VENV)/waybill demo || [ $$? -eq 5 ]

test: setup     ## every test: unit, store, hostile, system
	@scripts/setup pgbouncer
	@# Three at a time, for most wait as long as they work; a file's tests in one
	@# process: they share what they set up.  The long ones first (tests/conftest.py).
	@$(VENV)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: setup    ## formatting, lint, types, direction of imports
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports

format: setup   ## format and mend what lint can mend
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

bench: setup    ## ratios against a baseline of the same run
	@for name in steps waiting calls agents quota quotes backlog scale ocr ocr-quality; do \
	  echo "bench $$name"; $(VENV)/python -m loadtest bench $$name --json || exit 1; \
	done
	@# Beside OCRmyPDF: says what to install where that is not there.
	@$(VENV)/python -m loadtest bench searchable --json || [ $$? -eq 2 ]

proof: setup    ## longer failure runs, histories, seeded bugs: one table at the end
	@$(VENV)/python -m loadtest proof

lock: setup     ## write requirements.lock anew (needs uv)
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock

clean:          ## remove the virtual environment and caches; data stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
