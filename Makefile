# `make` lists the targets. ARGS goes to the command: make fit ARGS="--trainer.max_epochs 3"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
QUICK := tests/project tests/kit/data tests/kit/training tests/kit/ground  # its own tests, and a few of the library's
QUICK :=  # only: template
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: test-clones bench  # only: template
.PHONY: help setup fit test test-slow test-oldest test-all lint schema dashboard notebooks clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  */\1\t/p' Makefile | expand -t 14

setup: $(READY)  ## make .venv, with all extras

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: PYTHON=python3.12 make ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@# On all cores, which pip does not. torch has a file for later Pythons, which does not compile.
	$(BIN)/python -m compileall -q -j 0 $(VENV) >/dev/null || true
	touch $@

fit: $(READY)  ## train, test and report: configs/classification.yaml, or ARGS="--config FILE"
	$(BIN)/python -m project.fit $(ARGS)

test: $(READY)  ## run the quick tests
	$(PYTEST) -m "not slow" $(QUICK) $(ARGS)

test-slow: $(READY)  ## run the slow tests
	$(PYTEST) -m slow $(ARGS)

test-oldest:  ## run the quick tests with the oldest supported torch, in an environment of its own
	$(PYTHON) -m venv .venv-oldest
	sed 's/^torch==.*/torch==2.12.0/; s/^torchvision==.*/torchvision==0.27.0/' constraints.txt > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/constraints.txt -e '.[dev]'
	.venv-oldest/bin/python -m pytest --numprocesses logical --maxprocesses 4 -m "not slow" $(ARGS)

test-all: $(READY)  ## run all tests, the slow ones too
	$(PYTEST) $(ARGS)
	$(MAKE) test-clones ARGS=  # only: template

# only: template
test-clones: $(READY)  ## make projects of their own out of this one, and run their tests
	$(BIN)/python tests/cloning/clones.py $(ARGS)

# end only
lint: $(READY)  ## style, types, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# only: template
bench: $(READY)  ## measure speed against plain PyTorch
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/image_folder.py
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/checks.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/average_precision.py
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/dashboard.py --rounds 3
	$(BIN)/python benchmarks/safeguards.py --only step saving

# end only
schema: $(READY)  ## write configs/schema.json, with which editors check and complete configs
	$(BIN)/python configs/schema.py

dashboard: $(READY)  ## TensorBoard over runs/, at the first free port from 6006
	mkdir -p runs
	$(BIN)/tensorboard --logdir runs --samples_per_plugin images=100,text=100 $(ARGS)

notebooks: $(READY)  ## run all notebooks from scratch and save them with their outputs
	$(BIN)/python notebooks/execute.py $(ARGS)

clean:  ## remove the environment and the caches; runs/ stays
	rm -rf $(VENV) .venv-oldest .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist src/*.egg-info
