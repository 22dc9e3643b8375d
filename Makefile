# Each target sets up what it needs on a fresh machine with Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE = $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')
NAME ?= all

# Read at import by the libraries: no telemetry, no network, no spinning threads.
export ORT_DISABLE_TELEMETRY = 1
export HF_HUB_OFFLINE = 1
export OMP_WAIT_POLICY = PASSIVE
export TRANSFORMERS_VERBOSITY = error

.PHONY: help setup demo test check lint types imports protos proto-check bench system format clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(READY) ## Make .venv with everything in it.

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is needed"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[models,kernels,recipe,dev]'
	@touch $@

demo: $(READY) ## Run the whole loop on Petal; writes build/demo/.
	$(BIN)/python -m deploy.demo --out build/demo

test: $(READY) ## Run the whole test suite.
	$(BIN)/python -m pytest

check: lint types imports proto-check ## Lint, types, import contracts, protos, spelling.

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell service kernels protos policies deploy tests docs README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/myosotis policy check policies

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

protos: $(READY) ## Generate service/myosotis/v1 from protos/.
	rm -f service/myosotis/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -I protos -I $(SITE) --python_out=service --pyi_out=service --grpc_python_out=service protos/myosotis/v1/*.proto

build/api.binpb: $(READY) $(wildcard protos/myosotis/v1/*.proto)
	@mkdir -p build
	$(BIN)/python -m grpc_tools.protoc -I protos -I $(SITE) -I $(SITE)/grpc_tools/_proto --include_imports --include_source_info -o $@ protos/myosotis/v1/*.proto

# Lint, compatibility with the last release, and that the generated code is what protos/ gives.
proto-check: build/api.binpb
	$(BIN)/buf lint build/api.binpb --path myosotis --config protos/buf.yaml
	$(BIN)/buf breaking build/api.binpb --path myosotis --against protos/released.binpb --config protos/buf.yaml
	rm -rf build/protos && mkdir -p build/protos
	$(BIN)/python -m grpc_tools.protoc -I protos -I $(SITE) --python_out=build/protos --pyi_out=build/protos --grpc_python_out=build/protos protos/myosotis/v1/*.proto
	@for file in build/protos/myosotis/v1/*; do \
	  cmp "$$file" "service/myosotis/v1/$$(basename $$file)" || { echo "error: run 'make protos'"; exit 1; }; \
	done
	@test $$(ls build/protos/myosotis/v1 | wc -l) = $$(ls service/myosotis/v1 | grep -c _pb2) || { echo "error: stale files in service/myosotis/v1"; exit 1; }

bench: $(READY) ## Run benchmarks; NAME=x runs one. Writes build/bench/.
	$(BIN)/python -m tests.bench $(NAME)

system: ## Install the Debian packages that some tests need.
	sh deploy/system.sh

format: $(READY) ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what was made; keeps .venv.
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
