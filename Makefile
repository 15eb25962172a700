# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
# Both set up first: a virtual environment in .venv, and by apt what is missing (tools/setup.sh says what).

VENV := .venv
PYTHON := $(VENV)/bin/python
ZOBNN := $(VENV)/bin/zobnn
STAMP := $(VENV)/.zobnn-setup
BUILD_INPUTS := pyproject.toml tools/setup.sh $(wildcard firmware/CMakeLists.txt firmware/engine/* firmware/host/*)
SECONDS ?= 60
BOARDS := $(notdir $(patsubst %/board.toml,%,$(wildcard firmware/boards/*/board.toml)))

# Data sets are optional; where the developers' folder lies beside the checkout, use it.
ifneq ($(wildcard ../shared/data/README.md),)
export ZOBNN_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help setup demo test study fuzz bench footprints lint firmware clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## set up: virtual environment, cross compiler, emulator, engine

$(STAMP): $(BUILD_INPUTS)
	@tools/setup.sh $(VENV)
	@touch $@

demo: $(STAMP) ## the main job, end to end, on an emulated board
	$(ZOBNN) demo

test: $(STAMP) ## all tests but the slow studies
	$(PYTHON) -m pytest -n 2 -m "not study"

study: $(STAMP) ## the slow studies: tests, and docs/study.md with the campaigns it rests on (resumable; needs ZOBNN_DATA)
	$(PYTHON) -m pip install -q larq-zoo==2.4.0 --editable '.[study]'
	$(PYTHON) -m pytest -s -m study
	$(PYTHON) -m tools.study run
	$(PYTHON) -m tools.study costs
	$(PYTHON) -m tools.study write

fuzz: $(STAMP) ## fuzz frame parser, command handlers and model loader, SECONDS each (default 60)
	$(PYTHON) -m tests.fuzz --seconds $(SECONDS)

bench: $(STAMP) ## speed and memory, as ratios measured in one run
	$(PYTHON) tools/bench.py
	$(PYTHON) tools/bench_link.py

footprints: $(STAMP) ## bytes of every network of the zoo, beside LCE's own converter's file
	$(PYTHON) tools/footprints.py

lint: $(STAMP) ## formatting, types, generated files, C warnings
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) tools/generate.py --check
	tools/lint_c.sh $(VENV)

firmware: $(STAMP) ## firmware of the demo network for every board with room for it, into build/firmware
	@mkdir -p build/firmware
	for board in $(BOARDS); do $(ZOBNN) build zoo:digits --board $$board -o build/firmware/$$board.elf || true; done

clean: ## remove what was built, but the virtual environment
	rm -rf build demo-out
