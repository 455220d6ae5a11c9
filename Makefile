# `make` lists the targets. Every one that needs Python first makes .venv ready, by .ci/setup.sh.

.DEFAULT_GOAL := help
.PHONY: help setup format check test test-kill test-slurm demo bench wheel clean tools slurm postgresql

BIN := .venv/bin
READY := .venv/.ready
PACKAGES := data_shards distill evaluation launch
SCRIPTS = .ci/run $(wildcard .ci/*.sh benchmarks/*.sh slurm/*.sh)
PYTEST_ARGS ?=
# A file stays with one worker, as its fixtures do; files are handed out in order, those with a slow
# test first (tests/conftest.py).
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# An environment that was moved or copied would run the old checkout's code: make it again.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## Create .venv and install SkyDistill with its development tools

$(READY): pyproject.toml .ci/setup.sh
	@.ci/setup.sh environment

tools:
	@.ci/setup.sh tools

slurm:
	@.ci/setup.sh slurm || echo "make: no Slurm here; tests that start one are skipped"

postgresql:
	@.ci/setup.sh postgresql || echo "make: no PostgreSQL here; the test that starts one is skipped"

format: $(READY)  ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(READY) tools  ## Style, types and shell scripts, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	shellcheck $(SCRIPTS)

test: check slurm postgresql  ## Everything CI runs: the checks, then all tests (make test PYTEST_ARGS="-k plan")
	$(TESTS) $(PYTEST_ARGS)

test-slurm: $(READY) slurm  ## slurm/sues_all.sh whole, at demo size, on a Slurm of two nodes on this machine
	SKYDISTILL_TEST_SLURM=whole $(BIN)/python -m pytest -s tests/launch/test_sues_all.py

test-kill: $(READY)  ## Kill one of two ranks twenty times, by DDP and by ZeRO-2: the end is the uninterrupted run's
	SKYDISTILL_TEST_KILLS=20 $(BIN)/python -m pytest tests/distill/test_faults.py -k killed

demo: $(READY)  ## From raw folders to a distilled student on two processes
	$(BIN)/skydistill demo

bench: $(READY)  ## Run every benchmark; each prints one line of JSON
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do $(BIN)/python "$$script"; done

wheel: $(READY)  ## Build the wheel into dist/
	$(BIN)/python -m hatchling build -t wheel

clean:  ## Remove caches and build results; data/, outputs/ and .venv stay
	rm -rf dist build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
