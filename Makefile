# Everything a developer types. Needs nothing but make and a Python of at least 3.11; Go, Java and Node.js clients are tested
# where their toolchains are installed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# A recipe that fails leaves no half-made target behind.
.DELETE_ON_ERROR:

VENV := .venv
PYTHON_BIN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
STEP := scripts/step
# More arguments for what a target runs: make test ARGS="-k session", make bench ARGS=--quick.
ARGS ?=

CHECKS := check-lint check-format check-types check-imports check-compiles \
          check-protos-lint check-protos-format check-protos-breaking check-protos-generated

.PHONY: help install run test check protos bench fuzz conformance clients clean $(CHECKS)

help: ## Says what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Creates .venv with everything in it; again only when pyproject.toml has changed

$(STAMP): pyproject.toml scripts/create_venv
	@PYTHON="$(PYTHON)" scripts/create_venv $(VENV)
	@echo "installing into $(VENV)"
	@$(PYTHON_BIN) -m pip install --quiet --disable-pip-version-check --editable '.[serve,examples,dev]'
	@touch $@

run: install ## Serves examples/digits on HTTP 8000 and gRPC 9000
	@$(PYTHON_BIN) -m examples.digits $(ARGS)

test: install clients ## Runs the tests, those of the Go, Java and Node.js clients where there is a toolchain
	@$(PYTHON_BIN) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

clients: install
	@$(PYTHON_BIN) -m tests.clients.build

check: $(CHECKS) ## Lints, checks types, layers and the contract; writes nothing

check-lint: install
	@$(STEP) "ruff check" $(VENV)/bin/ruff check --quiet .
check-format: install
	@$(STEP) "ruff format" $(VENV)/bin/ruff format --quiet --diff .
check-types: install
	@$(STEP) "mypy" $(VENV)/bin/mypy --no-error-summary
check-imports: install
	@$(STEP) "import-linter" $(VENV)/bin/lint-imports
check-compiles: install
	@$(STEP) "compiles" $(PYTHON_BIN) -m compileall -q client gateway replica bench examples scripts tests
check-protos-lint: install
	@$(STEP) "buf lint" $(VENV)/bin/buf lint
check-protos-format: install
	@$(STEP) "buf format" $(VENV)/bin/buf format --diff --exit-code protos
check-protos-breaking: install
	@$(STEP) --show "buf breaking" $(PYTHON_BIN) scripts/check_breaking.py
check-protos-generated: install
	@$(STEP) "generated stubs" $(PYTHON_BIN) scripts/generate_protos.py --check

protos: install ## Generates the committed stubs from protos/
	@$(PYTHON_BIN) scripts/generate_protos.py

bench: install ## Measures Fairlead against bare servers, in about seven minutes
	@$(PYTHON_BIN) -m bench $(ARGS)

fuzz: install ## Tries the HTTP door with very many requests and bytes, for some minutes
	@$(PYTHON_BIN) -m pytest -q tests/edge/fuzz --hypothesis-profile=fuzz --timeout=3600 --show-capture=no $(ARGS)

conformance: install ## Runs Connect's conformance suite against the HTTP port; needs Go
	@$(PYTHON_BIN) -m tests.conformance $(ARGS)

clean: ## Removes .venv and everything else that is not committed and was made here
	rm -rf $(VENV) .environments .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  tests/clients/go/stubs tests/clients/go/bin tests/clients/java/target tests/clients/derived tests/clients/node/node_modules tests/clients/connect/node_modules tests/conformance/bin
