# make demo    install and run the main job on rendered surfaces
# make test    install and run the tests
# make test-all   the same, then what takes longer than 40 seconds, and the page in chromium (apt-get install chromium)
# make test-lowest   the quick tests with the lowest versions that pyproject.toml allows, in an environment of their own
# make lint    ruff and mypy
# make docs    the documents as pages, in site/
# make dist    wheel and sdist, checked, in dist/

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# idle threads sleep instead of spinning: beside another program, spinning ones make everything many times slower
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-all test-lowest lint docs dist clean

$(BIN)/anomalib: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(BIN)/anomalib
	PYTHON=$(BIN)/python bash examples/demo.sh

# a process per core, each with one thread; tests of one file stay together, since they share what they make
test: $(BIN)/anomalib
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

$(BIN)/gradio: $(BIN)/anomalib
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,page,browser,ray]"
	touch $@

# one after the other: each starts a server of its own
test-all: test $(BIN)/gradio
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -m browser tests/browser

# what is lowest is said once, in pyproject.toml; what these need in turn is as new as it may be
LOWEST := .venv-lowest
test-lowest: $(BIN)/anomalib
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python tools/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e . \
	    hypothesis onnxruntime pytest pytest-xdist watchdog
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n auto --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

lint: $(BIN)/anomalib
	$(BIN)/ruff check .
	$(BIN)/mypy

$(BIN)/mkdocs: $(BIN)/anomalib
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	touch $@

docs: $(BIN)/mkdocs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(BIN)/anomalib
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) $(LOWEST) site dist results datasets .pytest_cache .mypy_cache .ruff_cache .hypothesis
