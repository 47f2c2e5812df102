# Every target makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench presets docs clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[demo,opensmile,dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/ser demo

test: $(VENV)/installed
	$(BIN)/pytest -n auto --dist loadscope

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed
	$(BIN)/python -m bench.cache --quick
	$(BIN)/python -m bench.extract --quick
	$(BIN)/python -m bench.heads --quick
	$(BIN)/python -m bench.stack --quick

presets: $(VENV)/installed
	$(BIN)/ser presets check
	$(BIN)/ser presets smoke

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build site *.egg-info
