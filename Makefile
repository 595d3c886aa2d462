# Two commands do everything: `make run` and `make test`. Each sets up what it needs, once.
PYTHON ?= $(shell .ci/python)
BIN := .venv/bin
# Quiet about a MkDocs 2: the lock has the one that the theme is made for (docs/decisions/0026).
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.DEFAULT_GOAL := help
.PHONY: help setup run test check format docs docs-serve bench chaos screenshots image sbom dist clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/.ready  ## make .venv with the `orderstream` command, from locked dependencies

.venv/.ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv/.ready

run: setup  ## everything on this machine: Kafka, PostgreSQL and the services; Ctrl-C stops it
	@exec $(BIN)/orderstream up

# Most tests wait for servers. Each of the two processes has a Kafka and a PostgreSQL of its own.
# Java is taught first, once: tests start dozens of brokers, and each would try beside them.
test: setup  ## every test, two files at a time
	$(BIN)/python -m orderstream.local.warm_up
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup  ## format, lint, types, import rules, locks, the contract, the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_lock.py
	$(BIN)/python .ci/check_contract.py
	$(MKDOCS) build --strict

docs: setup  ## the documentation as a site, to be opened without a server
	$(MKDOCS) build --strict
	@echo "open file://$(CURDIR)/build/docs/index.html"

docs-serve: setup  ## the same on http://127.0.0.1:8000, built again at each change
	$(MKDOCS) serve

format: setup  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## the figures of docs/benchmarks.md
	$(BIN)/python -m bench

chaos: setup  ## the long crash runs
	$(BIN)/python -m pytest tests -m chaos --timeout 3600

screenshots: setup  ## the README's pictures of the console
	$(BIN)/python -m tests.browser.screenshots

image:  ## the image of the services, orderstream:local
	./entrypoint.sh --build

sbom: setup  ## what is in the image, as CycloneDX: dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json requirements.lock

dist: setup  ## wheel and sdist, in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean:  ## remove .venv and caches, not your data
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
