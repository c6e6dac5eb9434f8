# `make lab` opens the course, `make test` runs every test; both first build .venv/ where needed.
PYTHON ?= python3
# A package index with a CPU-only torch, for machines without a GPU:
#   make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# How many processes share the tests: make test WORKERS=4. One thread each, so one for every core.
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
SUPPORTED := import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else \
	"pocourse needs Python 3.11, 3.12 or 3.13, and " + sys.executable + " is " + sys.version.split()[0] + \
	". Name another with: make PYTHON=/path/to/python3.12 (after rm -r .venv, where one exists)")
# loadfile, because the cells of a notebook stay together; tests/workers.py refines it. What each process needs for itself
# (no network, folders of its own, one thread) it gets from conftest.py.
PYTEST := POCOURSE_PROFILE=ci $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile
# The chapters whose training cell has a record under data/runs/.
RECORDED := 02 03 04 05

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env lab test check lint format data records notebooks site clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

env: $(STAMP) ## .venv/ with the package, editable, and the pinned versions

# The stamp is written last: an interrupted install leaves none and is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@if test -x $(BIN)/python; then python=$(BIN)/python; else python="$(PYTHON)"; fi; \
	command -v "$$python" >/dev/null || { echo "make: no '$$python' here: install Python 3.11 or newer, or name one with make PYTHON=..." >&2; exit 1; }; \
	"$$python" -c '$(SUPPORTED)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

lab: $(STAMP) ## open the course in JupyterLab
	$(BIN)/pocourse lab

# Style and tests are judged together: one run tells all that is wrong, and one line says so.
test: $(STAMP) ## everything: style, unit tests, notebook checks, notebooks re-run by nbval
	@failed=; \
	$(BIN)/ruff check . || failed="$$failed ruff-check"; \
	$(BIN)/ruff format --check . || failed="$$failed ruff-format"; \
	$(PYTEST) tests notebooks --nbval-lax --nbval-cell-timeout=120 --durations=15 || failed="$$failed pytest"; \
	if test -n "$$failed"; then echo "make test: FAILED:$$failed" >&2; exit 1; fi; echo "make test: passed"

check: $(STAMP) ## while one works, at most 2 minutes: style, quick tests, claims, changed notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) tests -q -m "not slow and not notebooks"
	$(BIN)/pocourse claims
	$(BIN)/python -m pocourse.lesson.notebooks lint --changed

lint: $(STAMP) ## style of the code and lint of all notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pocourse.lesson.notebooks lint

format: $(STAMP) ## let ruff mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

data: $(STAMP) ## regenerate the shipped files: every script of data/make, in order
	@for script in data/make/*.py; do \
		test -e "$$script" || continue; echo "$$script"; $(BIN)/python "$$script" || exit 1; \
	done

records: $(STAMP) ## rerun the recorded training runs under data/runs/ (minutes a chapter)
	@for chapter in $(RECORDED); do $(BIN)/pocourse run $$chapter --profile cpu --record || exit 1; done

notebooks: $(STAMP) ## execute notebooks/text/*.md into the committed notebooks (minutes a chapter)
	$(BIN)/python -m pocourse.lesson.notebooks build

site: $(STAMP) ## build the site into docs/_build/html; nothing is executed, every warning is an error
	$(BIN)/python docs/make_site.py

clean: ## remove caches and build products; .venv/ stays, rm -r .venv removes it
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .hypothesis .coverage
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
