# Every target makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
unexport PYTHONDONTWRITEBYTECODE  # every process would compile again

.PHONY: demo test test-all test-fast coverage lint types fix messages encoders bench gpu-check presets docs constraints example pictures shelf clean

# what a user needs, and what the tests need besides; versions as in CI
$(VENV)/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/dev: $(VENV)/demo
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,opensmile,dev]'
	touch $@

demo: $(VENV)/demo
	$(BIN)/ser demo

# worksteal: each worker gets neighbouring tests, which share fixtures, and none is idle at the end
test: $(VENV)/dev
	$(BIN)/pytest -n auto --dist worksteal

# the tests marked slow as well (whole matrices, kill loops), and more generated examples
test-all: $(VENV)/dev
	$(BIN)/pytest -n auto --dist worksteal -m '' --hypothesis-profile thorough

# the stages without the command line, prediction and serving
test-fast: $(VENV)/dev
	$(BIN)/pytest -n auto --dist worksteal tests/corpus tests/cache tests/score tests/stack tests/heads

# the share of each module's lines that `make test` runs, and of all
coverage: $(VENV)/dev
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report term:skip-covered

lint: $(VENV)/dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# every sentence that a user can meet, for the diff of a change of wording
messages: $(VENV)/dev
	$(BIN)/python -m tests.messages --write

# the table of audio encoders in docs/extract.md, from the registry
encoders: $(VENV)/dev
	$(BIN)/python -m tests.encoders --write

bench: $(VENV)/dev
	$(BIN)/python -m bench.cache --quick
	$(BIN)/python -m bench.extract --quick
	$(BIN)/python -m bench.heads --quick
	$(BIN)/python -m bench.stack --quick
	$(BIN)/python -m bench.cold --quick

# on a machine with a GPU, which may have no network: its own Python, with bench/gpu-wheels.txt;
# make gpu-check GPU="--minutes 10 --only whisper"
gpu-check:
	$(PYTHON) -m bench.gpu $(GPU)

presets: $(VENV)/dev
	$(BIN)/ser presets check
	$(BIN)/ser presets smoke

docs: $(VENV)/dev
	$(BIN)/python docs/build.py

# constraints.txt again, with the newest versions, as pip would install them into an environment;
# without local suffixes, so that any wheel of torch fits
constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet --dry-run --report build/constraints/report.json \
	  '.[demo,opensmile,dev]'
	echo '# The versions that CI installs; written by `make constraints`.' > constraints.txt
	$(PYTHON) -c "import json; \
	  all = [p['metadata'] for p in json.load(open('build/constraints/report.json'))['install']]; \
	  [print(f\"{p['name']}=={p['version'].partition('+')[0]}\") \
	    for p in sorted(all, key=lambda p: p['name'].lower()) if p['name'] != 'ser-pipeline']" \
	  >> constraints.txt

# the example clip of `ser serve`, spoken by espeak-ng
example: $(VENV)/demo
	$(BIN)/python -c "from pathlib import Path; from ser.synthetic.speech import VOICES, speak; \
	  speak('This is the best day of my life.', 'happy', Path('ser/serve/example.ogg'), VOICES[17])"

# docs/images: the report and the page of runs/demo, which `make demo` makes; needs Chromium
pictures: $(VENV)/dev
	$(BIN)/python docs/pictures.py runs/demo

# the model on the shelf, from the audio of three corpora:
# make shelf RAVDESS=<folder> EMODB=<folder> EMOVO=<folder>
SHELF := data/shelf
shelf: $(VENV)/demo
	$(BIN)/ser corpus import ravdess "$(or $(RAVDESS),$(error give RAVDESS=<folder>))" --out $(SHELF)/ravdess.parquet
	$(BIN)/ser corpus import emodb "$(or $(EMODB),$(error give EMODB=<folder>))" --out $(SHELF)/emodb.parquet
	$(BIN)/ser corpus import emovo "$(or $(EMOVO),$(error give EMOVO=<folder>))" --out $(SHELF)/emovo.parquet
	$(BIN)/ser corpus split $(SHELF)/emodb.parquet --by speaker --test 0.2 --dev 0
	$(BIN)/ser corpus split $(SHELF)/emovo.parquet --by speaker --test 0.33 --dev 0
	$(BIN)/ser corpus join $(SHELF)/ravdess.parquet $(SHELF)/emodb.parquet $(SHELF)/emovo.parquet \
	  --classes angry,sad,happy,neutral --map ravdess:calm=neutral --others drop --out $(SHELF)/joined.parquet
	$(BIN)/ser run --pipeline presets/shelf.yaml --no-report
	$(BIN)/ser cross --pipeline presets/shelf.yaml
	$(BIN)/ser pack runs/acted-speech-4 -o ser/models/acted-speech-4.ser --risk 0.2 --licence "CC BY-NC-SA 4.0"

clean:
	rm -rf $(VENV) build site *.egg-info
