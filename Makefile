# Everything that a newcomer, a developer and the checks call. `make` alone lists the targets.
# Settings are given as variables: make run PORT=9000 DATA_DIR=./data-two. docs/configuration.md explains each.

PYTHON ?= python3
VENV := .venv/bin
.DEFAULT_GOAL := help
.PHONY: installed help run stop status logs test chaos crash-points model bench lint types fmt check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- The platform on this machine ---
run: install-run  ## install what is missing and start everything; Ctrl-C stops it (PORT, DATA_DIR)
	@exec $(VENV)/python -m tradedist.running run --parent $$PPID

stop: installed  ## stop what `make run` started
	@exec $(VENV)/python -m tradedist.running stop

status: installed  ## show each process and whether it is well
	@exec $(VENV)/python -m tradedist.running status

logs: installed  ## follow the logs (NAME=web for one process)
	@exec $(VENV)/python -m tradedist.running logs $(NAME)

# --- Tests and measurements ---
test: install-test  ## install what the tests need and run all of them but chaos and bench
	@$(VENV)/python -m charts.frontend test
	@$(VENV)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

chaos: install-test  ## kill, freeze, cut off and break everything under orders for MINUTES (15), and compare with the broker's ledger
	@$(VENV)/python -m pytest tests/chaos -m chaos -s --timeout 7200 --ignore tests/chaos/test_crash_points.py

crash-points: install-test  ## kill at every labelled point of an order's path, CRASH_SEEDS times each (40; about 20 minutes)
	@$(VENV)/python -m pytest tests/chaos/test_crash_points.py -m chaos -s --timeout 3600

model: install-test  ## random sequences by the thousand: of the paper broker's ledger, and of an executor's orders (an hour)
	@PAPER_SEQUENCES=$${PAPER_SEQUENCES:-2000} ORDER_MODEL_EXAMPLES=$${ORDER_MODEL_EXAMPLES:-1000} $(VENV)/python -m pytest \
	  --timeout 7200 $$(ls tests/property/*model.py) tests/property/test_changes_races.py tests/property/test_paper_ledger.py

bench: install-test  ## measure, and print the figures that docs/performance.md keeps
	@for name in $$(grep -l __main__ bench/*.py | sed 's#bench/##; s#.py$$##' | grep -v -e workers -e plain_web); do \
	  echo "--- $$name" && $(VENV)/python -m bench.$$name || exit 1; done

# --- Before a commit ---
lint: install-test  ## ruff: rules and format
	@$(VENV)/ruff check . && $(VENV)/ruff format --check .

types: install-test  ## mypy strict, and tsc over the page's modules
	@DATA_DIR=.mypy_cache/data-dir $(VENV)/mypy .
	@$(VENV)/python -m charts.frontend types

fmt: install-test  ## let ruff put the format right
	@$(VENV)/ruff check --fix --quiet . ; $(VENV)/ruff format .

check: lint types  ## lint, types and the quick tests
	@$(VENV)/python -m charts.frontend test
	@$(VENV)/python -m pytest -n 2 tests/unit tests/property tests/test_architecture.py tests/test_docs.py

installed:
	@test -x $(VENV)/python || { echo "Nothing is installed here yet. Start with: make run"; exit 1; }

install-%:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed. Name it: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) tradedist/install.py $*
