# make demo          the whole recipe on the built-in problems, 2 ranks, minutes on a laptop CPU
# make test          the quick tests
# make test-slow     the other tests: whole recipes, many ranks, a Slurm cluster on loopback
# make test-all      both
# make test-layouts  every layout against one rank, every change of layout on resume
# make bench         training, start-up, loader, ranks, checkpoints beside peers; about 20 minutes
# make gpu-wheels    what the GPU suite needs on a machine without a network, as wheels
# make check         ruff, strict pyright, the import contracts
# make setup         only the virtual environment with the pinned packages
# make constraints   pins anew for what pyproject.toml asks for; UPGRADE=--upgrade: the newest

PYTHON ?= python3
# Files of tests run side by side; many start ranks of their own, up to 8.
TEST_PROCESSES ?= 2
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES)

.PHONY: demo test test-slow test-all test-layouts bench gpu-wheels check setup constraints clean

demo: setup
	$(BIN)/python launch/recipe.py configs/recipe_demo.toml $(SETTINGS)

test: setup
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: setup
	$(PYTEST) -m slow $(TESTS)

test-all: setup
	$(PYTEST) $(TESTS)

test-layouts: setup
	$(BIN)/python -m tests.layouts

# Some peers ask for other versions of packages than we: without them, each has a place of its own.
# What is not installed is left out, with a row that says so.
PEERS := build/peers
bench: setup
	-$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(PEERS) \
	  accelerate==1.15.0 trl==1.16.0
	-$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(PEERS) \
	  mosaicml-streaming==0.13.0 brotli python-snappy cramjam xxhash zstd catalogue boto3 botocore \
	  s3transfer jmespath
	PYTHONPATH=$(PEERS) OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench $(BENCH)

# For Python 3.12 on Linux; 5 MB. torch, transformers and what those need must be there already:
# tests/bench/results/README.md says how the wheels are used. deepspeed has no wheel of its own, and
# without torch beside it builds a pure Python one.
gpu-wheels: setup
	rm -rf build/gpu_wheels
	$(BIN)/python -m pip download --quiet --no-deps --constraint constraints.txt \
	  --only-binary :all: --implementation cp --python-version 3.12 \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
	  --platform manylinux2014_x86_64 --dest build/gpu_wheels \
	  annotated-types hjson pydantic pydantic-core tomli typing-extensions typing-inspection
	$(BIN)/python -m pip wheel --quiet --no-deps --constraint constraints.txt \
	  --wheel-dir build/gpu_wheels deepspeed
	du -sh build/gpu_wheels

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m tests.prose

setup: $(READY)

# torch first: the other packages then find the build that was chosen and ask for no other.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,mpi]'
	touch $(READY)

# A pin for each Python version and platform; pins that still fit stay.
constraints:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads \
	  --all-extras --no-annotate --no-emit-index-url --custom-compile-command 'make constraints' \
	  $(UPGRADE) --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info
