.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-upstream bench lint format docs notebooks clean

PYTHON ?= python3
VENV := .venv
UPSTREAM := .venv-upstream
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTED := dapo_ext dapo_ext.playground dapo_ext.reporting.plots dapo_ext.reporting.comparison_plots dapo_ext.reporting.run_log \
	pg_grpo pg_grpo.ratio pg_grpo.pair_loss pg_grpo.pairwise
# `make bench SEEDS=4 BENCH_OUT=benchmarks/results/quick` makes the results that others are checked against
BENCHMARKS := ablation algorithms on_policy rollouts passk pipeline overhead memory
SEEDS ?= 1
BENCH_OUT ?= runs/bench
# One thread per process is fastest for policies this small; the tests use one process per core.
export OMP_NUM_THREADS ?= 1

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(INSTALLED)  ## warm start, DAPO training and a picture, offline, in at most five minutes
	$(BIN)/pg-grpo demo --output-dir runs/demo

test: $(INSTALLED)  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: $(INSTALLED)  ## the quick benchmarks, and whether they lie where the committed ones predict them
	@set -e; for name in $(BENCHMARKS); do \
	  case $$name in overhead|memory) options=;; *) options="--jobs 2";; esac; \
	  $(BIN)/python -m benchmarks $$name --preset quick --seeds $(SEEDS) $$options --out $(BENCH_OUT)/$$name.json; \
	done
	$(BIN)/python -m benchmarks check --fresh $(BENCH_OUT)

test-long: $(INSTALLED)  ## runs killed and resumed, runs of 200 steps on several ranks: at most 40 minutes
	$(BIN)/python -m tests.kill_campaign --minutes 22
	$(BIN)/python -m pytest -m long

# A venv of its own, anew each time, in which the newest TRL replaces the one that pyproject.toml allows.
test-upstream:  ## the test suite against the newest release of TRL; what fails is printed and fails nothing
	$(PYTHON) -m venv --clear $(UPSTREAM)
	$(UPSTREAM)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(UPSTREAM)/bin/python -m pip install --quiet --editable '.[dev]'
	$(UPSTREAM)/bin/python -m pip install --quiet --upgrade trl transformers
	@$(UPSTREAM)/bin/python -m pip list 2>/dev/null | grep -E '^(trl|transformers|accelerate|torch) '
	@$(UPSTREAM)/bin/python -m pytest -n 2 --dist loadgroup -rfE --tb=line \
		|| echo "The suite does not pass with these versions: CONTRIBUTING.md, 'When TRL has a new minor version'."

lint: $(INSTALLED)  ## ruff check and format check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## the API reference, from the docstrings, in build/api
	$(BIN)/pdoc --docformat google --no-show-source --output-directory build/api $(DOCUMENTED)

notebooks: $(INSTALLED)  ## execute the notebooks in smoke mode and store their outputs
	$(BIN)/python -m notebooks.execute

clean:  ## remove the environments, the API reference and the runs
	rm -rf $(VENV) $(UPSTREAM) build runs

# torch goes first and pinned, so that nothing else decides which build of it is taken.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
