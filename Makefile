# `make demo` runs the demo study, `make test` runs the checks; both set up what they need.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
TEST_PROCESSES ?= $(shell echo $$(( $(CORES) < 4 ? $(CORES) : 4 )))
VENV := .venv
BIN := $(abspath $(VENV)/bin)

# Recipes find the environment's programs first, so that jobs run in it without activation.
export PATH := $(BIN):$(PATH)

.PHONY: demo test test-all lint unit slow faults format lock help

help:
	@echo "make demo      pretrain the demo models and run the demo study to its figures"
	@echo "make test      style, types, unit tests, dry runs, a small study of every part: 8 minutes on two cores"
	@echo "make test-all  the same, then what takes long: a real Slurm, the Hub, faults, scale, every architecture"
	@echo "make faults    kill, fill and damage a study more than fifty times; hours on two cores"
	@echo "make format    rewrite the code in its style"
	@echo "make lock      renew envs/requirements.lock from pyproject.toml"

$(VENV)/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement envs/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/installed
	snakemake --cores $(CORES) --rerun-incomplete --show-failed-logs
	snakemake --cores $(CORES) --report results/report.html
	@echo
	@echo "The demo study is done. Where to look:"
	@echo "  figures   results/figures/demo/*.svg, results/figures/robustness/*.svg, results/figures/model_sizes.svg"
	@echo "  report    results/report.html"
	@echo "  tables    results/tables/concepts_accuracy.csv, features_stages.csv, robustness_comparisons.csv and others"
	@echo "  anything  $(VENV)/bin/glossogenesis inspect PATH"

test: lint unit

test-all: test slow

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy

# Folders whose tests share a finished study run in one process, the longest first: tests/conftest.py.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder

unit: $(VENV)/installed
	$(PYTEST) -m "not slow"

slow: $(VENV)/installed
	$(PYTEST) -m slow

faults: $(VENV)/installed
	OMP_NUM_THREADS=1 PYTHONPATH=tests/workflow python tests/faults/long_run.py

format: $(VENV)/installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

lock:
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet "setuptools>=77" ".[test]"
	.lock-venv/bin/python -m pip freeze --exclude glossogenesis --all | sed 's/+cpu$$//' \
		| grep -v -E '^(pip|nvidia-|triton|cuda-)' > envs/requirements.lock
	rm -rf .lock-venv
