.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs notebooks clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTED := dapo_ext dapo_ext.playground dapo_ext.plots dapo_ext.comparison_plots dapo_ext.run_log \
	pg_grpo pg_grpo.ratio pg_grpo.pair_loss pg_grpo.pairwise
# One thread per process is fastest for policies this small; the tests use one process per core.
export OMP_NUM_THREADS ?= 1

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED)  ## warm start, DAPO training and a picture, offline, in at most five minutes
	$(BIN)/pg-grpo demo --output-dir runs/demo

test: $(INSTALLED)  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup

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

clean:  ## remove the environment, the API reference and the runs
	rm -rf $(VENV) build runs

# torch goes first and pinned, so that nothing else decides which build of it is taken.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
