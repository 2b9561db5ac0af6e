# `make demo` runs the demo study, `make test` runs the checks; both set up what they need.

PYTHON ?= python3
# nproc counts what OMP_NUM_THREADS says, which is about the threads of one program.
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
TEST_PROCESSES ?= $(shell echo $$(( $(CORES) < 4 ? $(CORES) : 4 )))
VENV := .venv
BIN := $(abspath $(VENV)/bin)
UV ?= $(shell command -v uv 2>/dev/null)

# Recipes find the environment's programs first, so that jobs run in it without activation.
export PATH := $(BIN):$(PATH)
# A job would compile the library again, a quarter of a second, where its bytecode is not kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo showcase test test-all lint unit slow faults format docs lock help

help:
	@echo "make demo      pretrain the demo models and run the demo study to its figures"
	@echo "make showcase  the same world in a larger size: an hour and more"
	@echo "make test      style, types, unit tests, dry runs, a small study of every part: 8 minutes on two cores"
	@echo "make test-all  the same, then what takes long: a real Slurm, the Hub, faults, scale, every architecture"
	@echo "make faults    kill, fill and damage a study more than fifty times; hours on two cores"
	@echo "make format    rewrite the code in its style"
	@echo "make docs      print the tables of docs/ and the schema of study files anew, from the code"
	@echo "make lock      renew envs/requirements.lock from pyproject.toml"

# uv, where the machine has it, gets the settings that the environment has for pip. Nothing is compiled here: a
# program's first start compiles what it imports, a small part of all.
ifneq ($(UV),)
MAKE_VENV := $(UV) venv --quiet --seed --allow-existing --python $(PYTHON)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python $(PIP_INDEX_URL:%=--default-index %) \
	$(PIP_EXTRA_INDEX_URL:%=--index %) $(PIP_FIND_LINKS:%=--find-links %) \
	$(if $(PIP_EXTRA_INDEX_URL),--index-strategy unsafe-best-match)
else
MAKE_VENV := $(PYTHON) -m venv
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
endif

$(VENV)/installed: envs/requirements.lock pyproject.toml
	$(MAKE_VENV) $(VENV)
	$(INSTALL) --requirement envs/requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/installed
	snakemake --cores $(CORES) --rerun-incomplete --show-failed-logs
	snakemake --cores $(CORES) --report results/report.html
	@echo
	@echo "The demo study is done. Where to look:"
	@echo "  figures   results/figures/demo/*.svg, results/figures/robustness/*.svg"
	@echo "  report    results/report.html"
	@echo "  tables    results/tables/concepts_accuracy.csv, features_stages.csv, robustness_comparisons.csv and others"
	@echo "  anything  $(VENV)/bin/glossogenesis inspect PATH"

showcase: $(VENV)/installed
	snakemake --cores $(CORES) --rerun-incomplete --show-failed-logs --configfile resources/studies/showcase.yaml
	@echo "The showcase is done; its figures and tables are in results/showcase."

test: lint unit

test-all: test slow

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy
	lint-imports --no-logo --no-cache

# Folders whose tests share a finished study run in one process, the longest first: tests/conftest.py.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder

unit: $(VENV)/installed
	$(PYTEST) -m "not slow"

slow: $(VENV)/installed
	$(PYTEST) -m slow

faults: $(VENV)/installed
	OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/faults/long_run.py

format: $(VENV)/installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

docs: $(VENV)/installed
	python -m glossogenesis.inspection.guide

lock:
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet "setuptools>=77" ".[test]"
	.lock-venv/bin/python -m pip freeze --exclude glossogenesis --all | sed 's/+cpu$$//' \
		| grep -v -E '^(pip|nvidia-|triton|cuda-)' > envs/requirements.lock
	rm -rf .lock-venv
