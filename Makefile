# Every chore of the project.  `make help` lists them.
#
# PYTHON is the interpreter the virtual environments are made from; VENV is where.
# SCRIPTLING_WS_EXTENSION=yes makes a missing compiled kernel an error.

PYTHON ?= python3
VENV ?= .venv
export SCRIPTLING_WS_EXTENSION ?= auto

RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip --disable-pip-version-check
NODE_MODULES = tests/peers/node_modules

.DEFAULT_GOAL := help
.PHONY: help demo test test-compiled test-pure lint format peers bench bench-quick callgrind clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{printf "  make %-14s %s\n", $$1, $$2}'

# pip 25.1 is the first that installs dependency groups.
$(VENV)/made: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"
	@touch $@

# The package, in place: .py files are used where they are, the kernel is built
# anew when its source has changed.
$(VENV)/installed: $(VENV)/made setup.py src/_wsframe.pyx
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) install --quiet --group test
	@touch $@

$(VENV)/linted: $(VENV)/tested
	$(PIP) install --quiet --group lint
	@touch $@

demo: $(VENV)/installed ## every call of the API on an embedded server, then its speed
	$(VENV)/bin/scriptling-ws demo

test: test-compiled test-pure ## all tests, on both codecs

test-compiled: $(VENV)/tested peers ## all tests, on the compiled codec if there is one
	$(RUN) -m pytest $(PYTEST_ARGS)

test-pure: $(VENV)/tested peers ## all tests, on the pure codec
	SCRIPTLING_WS_PURE=1 $(RUN) -m pytest $(PYTEST_ARGS)

peers: ## Node's ws, for the tests against it; skipped where there is no npm
	@if command -v npm >/dev/null && [ ! -d $(NODE_MODULES) ]; then \
	    npm install --prefix tests/peers --no-package-lock --no-audit --no-fund --loglevel=error; \
	fi

lint: $(VENV)/linted ## ruff, mypy --strict, cython-lint, the direction of imports
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/cython-lint --max-line-length=100 src/_wsframe.pyx
	$(RUN) -m pytest --quiet tests/test_imports.py

format: $(VENV)/linted ## format the Python code
	$(RUN) -m ruff check --fix-only
	$(RUN) -m ruff format

clean: ## remove what the other targets have made
	rm -rf $(VENV) build dist out src/*.egg-info src/_wsframe.c src/scriptling_ws/*.so
	rm -rf $(NODE_MODULES) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
