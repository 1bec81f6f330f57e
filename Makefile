.DEFAULT_GOAL := help
.PHONY: help demo test bench lint format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# `make bench SEEDS=4 BENCH_OUT=benchmarks/results/quick` makes the results that others are checked against
BENCHMARKS := ablation algorithms on_policy rollouts passk pipeline overhead
SEEDS ?= 1
BENCH_OUT ?= runs/bench
# One thread per process is fastest for policies this small; the tests use one process per core.
export OMP_NUM_THREADS ?= 1

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED)  ## warm start, DAPO training and a picture, offline, in at most five minutes
	$(BIN)/pg-grpo demo --output-dir runs/demo

test: $(INSTALLED)  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: $(INSTALLED)  ## the quick benchmarks, and whether they lie where the committed ones predict them
	@set -e; for name in $(BENCHMARKS); do \
	  if [ $$name = overhead ]; then options=; else options="--jobs 2"; fi; \
	  $(BIN)/python -m benchmarks $$name --preset quick --seeds $(SEEDS) $$options --out $(BENCH_OUT)/$$name.json; \
	done
	$(BIN)/python -m benchmarks check --fresh $(BENCH_OUT)

lint: $(INSTALLED)  ## ruff check and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the runs
	rm -rf $(VENV) runs

# torch goes first and pinned, so that nothing else decides which build of it is taken.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
