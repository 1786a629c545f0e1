# Targets need Python 3.11 or newer and nothing else: each sets itself up in $(VENV).
PYTHON ?= python3
VENV ?= .venv
WHEELS ?= .whl
BIN := $(VENV)/bin
# Python compiles what it imports; to compile all of what is installed takes as long as to install it.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable

.PHONY: help demo test test-gpu wheels check lint types format docs bench fuzz clean
.NOTPARALLEL:

help:
	@echo 'make demo      make a small data set, load it, draw what comes out (in demo/)'
	@echo 'make test      run the tests'
	@echo 'make check     lint, formatting, types'
	@echo 'make format    put the code into its format'
	@echo 'make docs      build the documentation, in build/site'
	@echo 'make bench     measure how fast images come on this machine'
	@echo 'make fuzz      damaged files through every door for MINUTES=30, then stress; or INPUTS=1000000,'
	@echo '               from SEED=0 on, through DOOR=jpeg alone'
	@echo 'make test-gpu  test and measure a GPU, in under nine minutes; REC=train.rec: with these images'
	@echo 'make wheels    fetch wheels into .whl, for test-gpu on a machine without network; DALI=1: and DALI'
	@echo 'make clean     remove what the others made, $(VENV) included'

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/demo.py demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest

# With a folder of wheels nothing is fetched: packages come from there and from the machine's own
# Python, whose PyTorch, JAX and CuPy stay as they are.
REPORT = benchmarks/gpu_report.py $(if $(REC),--rec $(REC))
ifneq ($(wildcard $(WHEELS)/.),)
test-gpu:
	$(PYTHON) benchmarks/wheels.py install $(WHEELS) build/site
	PYTHONPATH=$(CURDIR)/build/site $(PYTHON) $(REPORT)
else
test-gpu: $(VENV)/gpu.stamp
	$(BIN)/python $(REPORT)
endif

wheels:
	$(PYTHON) benchmarks/wheels.py collect $(WHEELS) $(if $(DALI),--dali)

check: lint types

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# mypy does not follow an editable install into kernels/, so it reads a tree of links.
types: $(VENV)/dev.stamp
	rm -rf build/typed && mkdir -p build/typed
	cp -rs $(CURDIR)/gpuio build/typed/gpuio && ln -s $(CURDIR)/kernels build/typed/gpuio/kernels
	cd build/typed && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/cpu.py

FUZZ = $(if $(INPUTS),--inputs $(INPUTS),--minutes $(or $(MINUTES),30)) \
	$(if $(SEED),--seed $(SEED)) $(addprefix --door ,$(DOOR))
fuzz: $(VENV)/test.stamp
	cd tests && $(abspath $(BIN))/python -m robustness --stress $(FUZZ)

$(VENV)/gpu.stamp: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[test,bench,torch,jax,dali]' \
		'jax[cuda13]' torchvision
	@touch $@

# One stamp for each extra: what it installs follows pyproject.toml.
$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(INSTALL) '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gpuio needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
