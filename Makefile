# make help lists the targets. All of them work from a fresh clone; .venv is made when it is needed.
PYTHON ?= python3
VENV   := .venv
MINUTES ?= 60
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -P -m pip --disable-pip-version-check --quiet
PROTOS := protos/tally/v1/analytics.proto protos/tally/internal/v1/node.proto

.PHONY: help run test faults soak bench bench-all unit lint types walls proto proto-check lock clean check
.DEFAULT_GOAL := help

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(VENV)/.installed ## Start a cluster here: etcd, three shards, a gateway. Ctrl-C ends it. make run HTTP=127.0.0.1:9000
	@exec $(BIN)/python -P -m tally up $(if $(HTTP),--http '$(HTTP)')

test: $(VENV)/.installed-dev ## Run every test.
	$(BIN)/python -m pytest

faults: $(VENV)/.installed-dev ## Run every row of the fault matrix, the long ones too. About an hour.
	$(BIN)/python -m pytest tests/faults tests/integration/test_import_again.py \
		tests/integration/test_real_input.py --full --timeout 1800

soak: $(VENV)/.installed-dev ## Let all kinds of faults, joins, drains and restarts happen at random: make soak MINUTES=60
	$(BIN)/python -m pytest tests/faults/test_soak.py --minutes $(MINUTES) --timeout 0 --capture no

bench: $(VENV)/.installed ## Measure Tally beside nginx + Lua + Redis and FastAPI + Redis. About 10 minutes; says what it needs.
	@$(BIN)/python -m bench $(BENCH)

bench-all: $(VENV)/.installed ## Measure everything, a big hour too. More than an hour.
	@$(BIN)/python -m bench --all $(BENCH)

unit: $(VENV)/.installed-dev ## Run the tests that need no process, socket or disk.
	$(BIN)/python -m pytest tests/unit

check: lint types walls proto-check ## Everything that CI checks without running the code.

lint: $(VENV)/.installed-dev ## Check style: ruff, buf.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint

types: $(VENV)/.installed-dev ## Check types: mypy, strict.
	$(BIN)/mypy

walls: $(VENV)/.installed-dev ## Check who imports whom: import-linter.
	$(BIN)/lint-imports

proto: $(VENV)/.installed-dev ## Generate the code beside the .proto files.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . \
		--python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

proto-check: $(VENV)/.installed-dev ## Check that the generated code is current.
	$(BIN)/python -m pytest -q tests/unit/test_generated_code.py

lock: $(VENV)/.installed-dev ## Renew requirements*.lock from pyproject.toml.
	$(BIN)/uv --quiet pip compile --universal --generate-hashes --no-emit-index-url --no-header --upgrade \
		--python-version 3.11 pyproject.toml deploy/build-requirements.in --output-file requirements.lock
	$(BIN)/uv --quiet pip compile --universal --generate-hashes --no-emit-index-url --no-header --upgrade \
		--python-version 3.11 --constraint requirements.lock --extra dev pyproject.toml deploy/build-requirements.in --output-file requirements-dev.lock

clean: ## Remove what make made, but not ./data.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# What pip says at length goes into a file; who waits for it gets one line.
INSTALL_LOG := $(VENV)/install.log
define install
@$(PIP) --retries 2 install $(1) > $(INSTALL_LOG) 2>&1 || { \
	if grep -qi 'no space left' $(INSTALL_LOG); then why='the disk of $(VENV) is full'; \
	elif grep -qiE 'connection|name resolution|timed out|proxy' $(INSTALL_LOG); then why='no way to the Python packages: is there a network?'; \
	else why=$$(grep -i error $(INSTALL_LOG) | tail -n 1); fi; \
	echo "Can't install: $${why:-pip failed} (all of it: $(INSTALL_LOG))" >&2; exit 1; }
endef

# A .venv that has no pip, because it was begun when this Python lacked it, is made anew.
# Wheels only, each with its hash: no compiler, and nothing but what the lock names.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tally needs Python 3.11 or newer; say which with PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV) (once, about 20 seconds)..."
	@$(BIN)/python -P -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(call install,--only-binary :all: --require-hashes --requirement requirements.lock)
	$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing the tools for tests into $(VENV)..."
	$(call install,--only-binary :all: --require-hashes --requirement requirements-dev.lock)
	@touch $@
