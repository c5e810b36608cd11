# Every target that needs the environment makes it first; `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# cpu, or gpu for machines with one: which build of vLLM and PyTorch is installed.
DEVICE ?= cpu
WORKSPACE_GIVEN := $(filter-out undefined file,$(origin WORKSPACE))
WORKSPACE ?= build/demo

# Values reach the shell through its environment: neither make nor the shell expands or runs them.
VALUES := PYTHON DEVICE WORKSPACE ARGS DATA PROJECT REGION IMAGE SPEC PIPELINE PIP_CONF JOB PARAMETERS
GIVEN := $(foreach name,$(VALUES),$(if $(filter undefined,$(origin $(name))),,$(name)))
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)
ifneq ($(DEVICE),cpu)
ifneq ($(DEVICE),gpu)
$(error DEVICE must be cpu or gpu)
endif
endif
# ARGS holds words, quoted as in a shell. The first xargs is for its exit code.
split := xargs -r printf '%s\0' <<<"$$ARGS"
args := $(split) >/dev/null && mapfile -td '' args < <($(split)) &&
words := "$${args[@]}"

# Containers set it. Without bytecode every process compiles its imports: 11 s more for Beam,
# 13 s for TensorFlow.
unexport PYTHONDONTWRITEBYTECODE

# uv reads no configuration of pip's: what pip is configured with is handed on.
pip_config = $(shell '$(subst ','\'',$(PYTHON))' -m pip config list 2>/dev/null \
  | sed -n "s/^[a-z]*[.]$(1)='\(.*\)'/\1/p" | tail -n 1 | sed 's/\\n/ /g')
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX-$${PIP_INDEX_URL-$(call pip_config,index-url)}}" \
  UV_EXTRA_INDEX_URL="$${UV_EXTRA_INDEX_URL-$${PIP_EXTRA_INDEX_URL-$(call pip_config,extra-index-url)}}" \
  UV_FIND_LINKS="$${UV_FIND_LINKS-$${PIP_FIND_LINKS-$(call pip_config,find-links)}}" \
  UV_INDEX_STRATEGY=unsafe-best-match $(VENV)/uv/bin/uv

# $(call known,name,names) is the name if it is one of the names.
known = $(or $(filter $(2),$(firstword $(1))),$(error there is no $(1)))
PIPELINES := $(filter-out __init__,$(patsubst pipelines/%.py,%,$(wildcard pipelines/*.py)))

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## */\1\t/' | expand -t 14

# A constraint has no hash, so uv cannot require one of everything beside it; it still checks all.
constraints = $(wildcard requirements/constraints-$(DEVICE).txt)
HASHES = $(if $(constraints),--constraint $(constraints),--require-hashes)

.PHONY: setup
setup: $(VENV)/installed-$(DEVICE)  ## make .venv; instant when nothing changed

$(VENV)/installed-$(DEVICE): requirements/$(DEVICE).txt pyproject.toml
	@echo "setting up $(VENV) for $(DEVICE): about 6 GB"
	@test -x $(BIN)/python || "$$PYTHON" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/uv "uv==0.13.9"
	@$(UV) pip sync --quiet --python $(BIN)/python requirements/$(DEVICE).txt $(HASHES) || \
	  { echo "if it is torch that is missing: README.md says where its CPU build comes from"; exit 1; }
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	rm -f $(VENV)/installed-* && touch $@

.PHONY: setup-emulators
setup-emulators: $(VENV)/emulators/installed  ## make .venv/emulators: Google Cloud for the tests

$(VENV)/emulators/installed: requirements/emulators.txt | setup
	@echo "setting up $(VENV)/emulators: about 0.5 GB"
	@test -x $(VENV)/emulators/bin/python || "$$PYTHON" -m venv --without-pip $(VENV)/emulators
	@$(UV) pip sync --quiet --require-hashes --python $(VENV)/emulators/bin/python $<
	@touch $@

.PHONY: setup-chromium
setup-chromium:  ## install Debian's Chromium, which the tests open the report in
	@command -v chromium >/dev/null || { \
	  echo "installing chromium"; as=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$as apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive $$as apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	  || { echo "the tests of the report need chromium on the PATH: install it and try again"; exit 1; }

.PHONY: setup-rectools
setup-rectools: $(VENV)/rectools/installed  ## make .venv/rectools: what bench-retriever is measured against

$(VENV)/rectools/installed: requirements/rectools.txt | setup
	@echo "setting up $(VENV)/rectools: about 1.5 GB"
	@test -x $(VENV)/rectools/bin/python || "$$PYTHON" -m venv --without-pip $(VENV)/rectools
	@$(UV) pip sync --quiet --require-hashes --python $(VENV)/rectools/bin/python $<
	@touch $@

COMPILE = $(UV) pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml
.PHONY: lock
lock: setup  ## resolve the dependencies of pyproject.toml again
	$(COMPILE) --output-file requirements/base.txt
	$(COMPILE) --extra cpu --extra demo --extra dev --override requirements/overrides-cpu.txt \
	  --output-file requirements/cpu.txt
	$(COMPILE) --extra gpu --extra demo --extra dev --constraint requirements/constraints-gpu.txt \
	  --override requirements/overrides-gpu.txt --output-file requirements/gpu.txt
	$(COMPILE:pyproject.toml=requirements/emulators.in) --output-file requirements/emulators.txt
	$(COMPILE:pyproject.toml=requirements/rectools.in) --output-file requirements/rectools.txt

.PHONY: demo
# The demo goes on, and says so, where a small model tuned for a minute misses a gate.
demo: setup  ## the whole job on MovieLens (WORKSPACE=build/demo)
	@$(args) set -x && $(BIN)/python -m pipelines.explore --workspace="$$WORKSPACE" --dataset=movielens \
	  --clusters=6,12,24,48 --ignore_gates $(words)

# A file's tests share what they build, so a file is one worker's. The slowest files come first.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
.PHONY: test
test: setup setup-emulators setup-chromium  ## all tests but those of test-faults
	$(PYTEST) -m "not faults"

# Without whole stages, PyTorch, TensorFlow, a browser and waiting for processes that hang.
NOT_FAST = pipelines benchmarks faults docs models/common models/retrieval \
  models/language/training models/language/decoding/test_vllm_engine.py \
  transforms/clusters/test_real_clusters.py transforms/evaluation/report/test_in_browser.py \
  transforms/retrieval models/language/test_language_model.py models/language/test_output_head.py \
  models/language/cost
.PHONY: test-fast
test-fast: setup  ## the tests for while you type: no engine, no emulator
	$(PYTEST) -m "not slow and not faults and not emulator" $(addprefix --ignore=tests/,$(NOT_FAST))

.PHONY: coverage
coverage: setup setup-emulators setup-chromium  ## the same, and which lines and branches they run
	$(PYTEST) -m "not faults" --cov --cov-report=term --cov-report=html:build/coverage

.PHONY: test-faults
test-faults: setup setup-emulators  ## kill real processes and look what is left
	$(BIN)/python -m pytest -m faults

# bench-x runs benchmarks.x: a table, and one JSON object as the last line.
BENCHMARKS := $(subst _,-,$(filter-out __init__ common,$(patsubst benchmarks/%.py,%,$(patsubst %/,%,\
  $(wildcard benchmarks/*.py)))) $(patsubst benchmarks/%/__main__.py,%,$(wildcard benchmarks/*/__main__.py)))
bench-%: setup
	@$(args) set -x && $(BIN)/python -m benchmarks.$(subst -,_,$(call known,$*,$(BENCHMARKS))) $(more) $(words)

bench-novelty-table:  ## pairs/s of the novelty table beside other ways to build it
bench-clusters:  ## clusters of real items beside plain k-means
bench-retriever: setup-rectools  ## HR@10 and NDCG@10 beside RecTools' SASRec and popularity
bench-retriever-training: setup-rectools  ## seconds to the best NDCG@10 beside RecTools' SASRec
bench-quality:  ## the table beside every baseline: DATA= WORKSPACE=build/quality
bench-report: setup-chromium  ## seconds until the report of 761 clusters is open, and its size
bench-bigquery: setup-emulators  ## rows/s from BigQuery beside Beam's own readers
bench-mining:  ## interactions/s of mining beside DuckDB and Beam's elements, and its memory
bench-cluster-assignment:  ## items/s of build_clusters on millions of items, and its memory
bench-recommend:  ## users/s of recommend beside a call of the SavedModel for each user
bench-topk:  ## queries/s of the top k within clusters beside TFRS's brute force with a mask
bench-serving:  ## milliseconds and users/s of the SavedModel in plain TensorFlow, and its size
bench-quality: more = $${DATA:+--data="$$DATA"} $(if $(WORKSPACE_GIVEN),--workspace="$$WORKSPACE")

# Google Cloud. With PRINT_ONLY=1 commands are printed in place of being run.
do = @$(args) $(if $(PRINT_ONLY),printf '%q ' $(1) && echo,$(1))
need = $(if $($(1)),"$$$(1)",$(error $(1)=$(2) is missing))
PROJECT_FLAG = --project=$(call need,PROJECT,my-project)
AT = $(PROJECT_FLAG) --region=$(call need,REGION,us-central1)
PIP_SECRET = --secret="id=pip,src=$$PIP_CONF"

dataflow-%: $(if $(PRINT_ONLY),,setup)  ## submit a pipeline: PROJECT= REGION= WORKSPACE=gs://... [IMAGE=] [ARGS=flags]
	$(call do,$(BIN)/python -m pipelines.$(call known,$*,$(PIPELINES)) --runner=DataflowRunner $(AT) \
	  --workspace="$$WORKSPACE" --temp_location="$$WORKSPACE"/temp \
	  $(if $(IMAGE),--sdk_container_image="$$IMAGE") $(words))

.PHONY: templates
templates: setup  ## write templates/*.json and workflow.yaml from the pipelines' flags
	$(BIN)/python -m templates.generate

.PHONY: template-build
template-build:  ## build one: PIPELINE= IMAGE= SPEC=gs://... PROJECT= [DEVICE=gpu] [PIP_CONF=file]
	$(call do,docker build --file=templates/Dockerfile.$(DEVICE) $(if $(PIP_CONF),$(PIP_SECRET)) \
	  --build-arg=PIPELINE=$(call need,PIPELINE,finetune) \
	  --build-arg=IMAGE="$$IMAGE" --tag=$(call need,IMAGE,name:tag) .)
	$(call do,docker push "$$IMAGE")
	$(call do,gcloud dataflow flex-template build $(call need,SPEC,gs://bucket/finetune.json) \
	  --image="$$IMAGE" --sdk-language=PYTHON --metadata-file=templates/"$$PIPELINE".json \
	  $(PROJECT_FLAG))

.PHONY: template-run
template-run:  ## run one: JOB= SPEC=gs://... PROJECT= REGION= PARAMETERS='a=1~b=2' [ARGS=flags]
	$(call do,gcloud dataflow flex-template run $(call need,JOB,finetune-1) $(AT) \
	  --template-file-gcs-location=$(call need,SPEC,gs://bucket/finetune.json) \
	  --parameters='^~^'$(call need,PARAMETERS,workspace=gs://bucket/workspace) $(words))

.PHONY: docs
docs: setup  ## build the documentation in build/docs and check all its links
	$(BIN)/python -m docs.generate
	$(BIN)/mkdocs build --strict

.PHONY: lint
lint: setup  ## style, types and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: setup  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## remove the environment and everything built
	rm -rf $(VENV) build
