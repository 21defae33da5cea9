# The commands of the workspace; `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
READY  := $(VENV)/.ready
PROJECTS      := $(wildcard core/pyproject.toml plugins/*/pyproject.toml)
DISTRIBUTIONS := $(patsubst %/pyproject.toml,--editable %,$(PROJECTS))

.DEFAULT_GOAL := help
.PHONY: help venv pins demo test soak check format docs bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY)  ## make .venv with the project and its tools

$(READY): requirements/dev.txt $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunmesh needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --requirement requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation $(DISTRIBUTIONS)
	$(PIP) check
	@touch $@

pins:  ## make .venv anew with the newest releases, and pin them
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --group dev $(DISTRIBUTIONS)
	echo '# What `make venv` installs besides the project itself; `make pins` writes this file.' > requirements/dev.txt
	$(PIP) freeze --exclude-editable >> requirements/dev.txt
	@touch $(READY)

demo: venv  ## form a mesh of three nodes on this machine and send traffic through it
	$(BIN)/tunmesh demo $(ARGS)

test: venv  ## set everything up and run every test, with coverage
	scripts/install-programs test
	scripts/run-tests $(ARGS)

soak: venv  ## a day of a mesh in memory, and ten minutes of a real one, with nodes that come and go
	scripts/in-namespaces $(BIN)/python -m pytest -m soak -s tests/soak $(ARGS)

check: venv  ## static checks: format, lint, types, layers, spelling
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

format: venv  ## format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: venv  ## build the documentation into docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

bench: venv  ## compare tunmesh with other tunnels, side by side, on this machine
	scripts/install-programs bench
	scripts/in-namespaces $(BIN)/python -m benchmarks $(ARGS)
	$(BIN)/python -m benchmarks.routes

clean:  ## remove everything that the other commands made (measured results stay)
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache docs/_build
	rm -rf $(foreach project,$(PROJECTS),$(dir $(project))dist)
	find benchmarks core docs plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +
