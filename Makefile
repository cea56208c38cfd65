# make demo    the whole recipe on the built-in problems, 2 ranks, minutes on a laptop CPU
# make test    all tests
# make test-layouts   every layout against one rank, every change of layout on resume
# make check   ruff and strict pyright
# make setup   only the virtual environment with the pinned requirements

PYTHON ?= python3
# Files of tests run side by side; many start ranks of their own, up to 8.
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-layouts check setup clean

demo: setup
	$(BIN)/python launch/recipe.py configs/recipe_demo.toml $(SETTINGS)

test: setup
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) $(TESTS)

test-layouts: setup
	$(BIN)/python -m tests.layouts

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

setup: $(READY)

# torch first: deepspeed and the others then find the pinned build and ask for no other.
$(READY): requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info
