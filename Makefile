# Two commands for everything: `make build` and `make test`. The set-up that they share is done once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: build test test-slow lint docs conformance fuzz real clean

build: .venv/installed
	$(BIN)/python -m builder recipe=mobilenet_v2_fp16
	$(BIN)/python -m builder flush

test: .venv/installed
	$(BIN)/python -m compileall -q builder runtime/coreml_runtime # once, and not by each process that may not write
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow -n 2 --dist loadgroup

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/codespell docs README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md builder runtime recipes conf

docs: .venv/installed  # the documentation as a site without network, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

real: .venv/installed  # downloads packages with trained weights into ~/.cache/builder-real-models
	$(BIN)/python -m tests.real

fuzz: .venv/installed  # hours; `python -m tests.fuzz --help` says how to run less
	$(BIN)/python -m tests.fuzz --write

conformance: .venv/installed
	$(BIN)/python -m tests.conformance
	$(BIN)/python -m tests.conformance.onnx_nodes
	$(BIN)/python -m tests.conformance.torch_ops

.venv/installed: pyproject.toml runtime/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' # knows dependency groups
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    -e ./runtime -e '.[onnx,timm,huggingface,sign,submitit,search,coreai,remote]' --group dev
	touch $@

clean:
	rm -rf .venv
