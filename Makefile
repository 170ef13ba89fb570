# make demo    install and run the main job on rendered surfaces
# make test    install and run every test but those of the page
# make test-all   the same, then those of the page, in chromium (apt-get install chromium)
# make lint    ruff and mypy

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# idle threads sleep instead of spinning: beside another program, spinning ones make everything many times slower
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-all lint clean

$(BIN)/anomalib: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(BIN)/anomalib
	PYTHON=$(BIN)/python bash examples/demo.sh

# a process per core, each with one thread; tests of one file stay together, since they share what they make
test: $(BIN)/anomalib
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

$(BIN)/gradio: $(BIN)/anomalib
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,page,browser]"
	touch $@

# one after the other: each starts a server of its own
test-all: test $(BIN)/gradio
	$(BIN)/python -m pytest -m browser tests/browser

lint: $(BIN)/anomalib
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) results datasets .pytest_cache .mypy_cache .ruff_cache .hypothesis
