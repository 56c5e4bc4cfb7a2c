# Two commands: make demo, make test. Everything else is .venv/bin/unmask.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: help demo test test-slow test-all lint browser database audit clean

help:
	@echo "make demo      install, start everything, analyse the sample, print the addresses (DEMO='--api-port 8100')"
	@echo "make test      install and run the tests (some 15 minutes on 2 cores); make test-all adds the slow ones"
	@echo "make lint      ruff and mypy; make audit asks for known vulnerabilities of the pinned packages"

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "unmask needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made: install your system's package for it (Debian: python3-venv)."; exit 1; }

# facenet-pytorch carries MTCNN's weights but pins a torch of 2024; it runs on today's, so its pins are left out.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing the pinned packages into $(VENV) (several gigabytes, some minutes, once) ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-deps facenet-pytorch
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: $(VENV)/.installed
	@exec $(BIN)/unmask demo $(DEMO)

browser:
	@sh tests/e2e/install_browser.sh

database:
	@sh tests/serve/install_postgresql.sh

# Two processes, as most tests use one core; tests/e2e alone, whose services and browsers use both.
TWO := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/e2e
ALONE := $(BIN)/python -m pytest tests/e2e

test: $(VENV)/.installed-dev browser database
	$(TWO) -m "not slow"
	$(ALONE) -m "not slow"

test-slow: $(VENV)/.installed-dev browser database
	$(TWO) -m slow --timeout=1800
	$(ALONE) -m slow --timeout=1800

test-all: test test-slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of the pinned packages: fails on what is found, says so where there is no network to ask.
audit: $(VENV)/.installed-dev
	@$(BIN)/python .ci/audit.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .artifacts
