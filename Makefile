# Everything a newcomer, a developer and the checks call. `make` alone lists the targets.
# Settings are environment variables: `make run PORT=9000 DATA_DIR=./data-two`. docs/configuration.md has all of them.

PYTHON ?= python3
VENV := .venv/bin
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run stop status logs test lint types fmt check chaos bench

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install-run  ## start the whole platform on this machine; Ctrl-C stops it (PORT, DATA_DIR)
	@exec $(VENV)/python -m tradedist.running run --parent $$PPID

install-%:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed. Name it: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) tradedist/install.py $*

stop:  ## stop what `make run` started
	@exec $(VENV)/python -m tradedist.running stop

status:  ## show each process and whether it is well
	@exec $(VENV)/python -m tradedist.running status

logs:  ## follow the logs (NAME=web for one process)
	@exec $(VENV)/python -m tradedist.running logs $(NAME)
