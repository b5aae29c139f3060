# make repro   the environment, the whole pipeline, the table of results
# make test    the environment, every check, every test
# make bench   the peers' environments (2 GB) and every benchmark; BENCH="--data FOLDER --quick" for options
# Another interpreter: make repro PYTHON=python3.12. More options for pip: make repro PIP_ARGS="--proxy http://host:3128".

PYTHON ?= python3
PIP_ARGS ?=
BENCH ?=
VENV := .venv
BIN := $(VENV)/bin
# --no-compile: Python compiles what it imports, which is a part of what is installed; a third of the time is saved
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: repro test check bench

# dvc starts each stage with the command `seqkd`, so the environment's commands must be on PATH.
# Table 2 depends on the machine too, which DVC cannot see: the one that came with the clone is measured anew.
repro: .dvc/config $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@! git diff --quiet HEAD -- reports/table2.csv || PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro --single-item --force speed
	@$(BIN)/seqkd show --reports reports

test: check
	$(BIN)/python -m pytest

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy --strict

bench: $(VENV)/installed
	PYTHON=$(BIN)/python PIP_ARGS="$(PIP_ARGS)" benchmarks/peers.sh
	$(BIN)/python -m benchmarks all $(BENCH)

.dvc/config:
	@echo "There is no .dvc/config here; run make in a whole clone of the project." >&2; exit 1

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
	  echo "seqkd needs Python 3.11 or newer, which $(PYTHON) is not; name one, such as: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing what the checks and tests need"
	@$(INSTALL) --quiet -e '.[dev]'
	@touch $@
