# make repro   make the environment, run the whole pipeline, print the tables of results
# make quick   ruff, mypy and the fast tests: under a minute once the environment is there
# make test    every check and every test; what CI runs
# make results CORPUS=multi30k   run the recipe on another corpus with three seeds; DATA=FOLDER: the text itself
# make bench   every benchmark, in environments of its own for the other toolkits (2 GB); BENCH="--data FOLDER --quick"
# Another interpreter: make repro PYTHON=python3.12. Options for pip: make repro PIP_ARGS="--proxy http://host:3128".

PYTHON ?= python3
PIP_ARGS ?=
BENCH ?=
CORPUS ?= default
DATA ?=
SEEDS ?= 17,18,19
VENV := .venv
BIN := $(VENV)/bin
# --no-compile: Python compiles each module when it is first imported, which saves a third of the installation's time.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: repro quick test check bench results whole

# dvc starts each stage with `python -m seqkd`, so the environment's python must come first on PATH.
# Table 2 holds timings of this machine, which DVC cannot see: the table that came with the clone is measured again.
repro: whole $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@! git diff --quiet HEAD -- reports/table2.csv || PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro --single-item --force speed
	@$(BIN)/seqkd show --reports reports

quick: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not dvc and not gpu and not browser"

# A file's tests stay in one process, as they share what they made. Timings want cores of their own, so two at once.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

bench: $(VENV)/installed
	PYTHON=$(BIN)/python PIP_ARGS="$(PIP_ARGS)" benchmarks/peers.sh
	$(BIN)/python -m benchmarks all $(BENCH)

# Each run takes as long as make repro. They are made in clones under .results; docs/results.md gets their tables.
results: whole $(VENV)/installed
	$(BIN)/python -m benchmarks.results run $(CORPUS) --data "$(DATA)" --seeds $(SEEDS)

# What DVC would refuse only after the installation, and with no word on what to do.
whole:
	@test -f .dvc/config || { \
	  echo "There is no .dvc/config here; run make in a whole clone of the project." >&2; exit 1; }
	@git rev-parse --verify --quiet HEAD >/dev/null 2>&1 || { \
	  echo "Git finds no history here, which DVC needs; clone the project, or make one:" \
	    "git init && git add . && git commit -m start" >&2; exit 1; }
	@corpus="$$(sed -n "s/^  corpus: *//p" params.yaml | sed "s/ *#.*//; s/^[\"']//; s/[\"']\$$//")"; \
	broken="$$(find -L "$$corpus" -type l 2>/dev/null | head -n 1)"; test -z "$$broken" || { \
	  echo "$$broken: a link to what is not there; correct the link or remove it." >&2; exit 1; }

$(VENV)/installed: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
	  echo "seqkd needs Python 3.11 or newer, which $(PYTHON) is not; name one, such as: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[pipeline]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing what the checks and tests need"
	@$(INSTALL) --quiet -e '.[dev]'
	@touch $@
