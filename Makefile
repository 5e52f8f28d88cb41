# make demo: set up, then run the quickstart experiment.   make test: set up, then check and test.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
FAISS  := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-slow check lock clean
help:        ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/: *[^#]*## */\t/' | expand -t 12

setup: $(VENV)/ready  ## create .venv and install everything
$(VENV)/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "strata needs Python 3.11 or newer: make PYTHON=/path/to/python3")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --python $(PY) --constraint requirements.lock --editable '.[$(FAISS),dev]'
	$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	touch $@

demo: setup  ## run the quickstart experiment: five arms, three seeds
	$(VENV)/bin/strata run experiment=quickstart

test: setup check  ## lint, types and the fast tests
	$(PY) -m pytest -n 2 --dist worksteal -m "not slow and not gpu and not network" $(ARGS)

test-slow: setup  ## the slow tests
	$(PY) -m pytest -m "slow and not gpu and not network" $(ARGS)

check: setup  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock: setup  ## pin what is installed by pyproject.toml, without any index address
	$(VENV)/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra cpu --extra dev pyproject.toml -o requirements.lock

clean:       ## remove the environment and what runs left
	rm -rf $(VENV) build *.egg-info runs
