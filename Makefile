# Every target makes its own .venv. On a machine without a GPU, PyPI's torch still brings CUDA:
#   make test PIP_TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_TORCH_FLAGS ?=

BUILD_NEEDS := "setuptools>=77" wheel "pybind11>=3.0" "numpy>=1.26" ninja "cmake>=3.25"
BUILT_FROM := pyproject.toml setup.py $(shell find csrc -type f)
BIN := .venv/bin
CPP = $(shell git ls-files 'csrc/*' 'tests/cpp/*' | grep -E '\.(h|cpp|cu|cuh|c)$$')

.PHONY: demo test lint format bench cuda-check clean

demo: .venv/installed-demo ; $(BIN)/sphereface demo
test: .venv/installed-test ; $(BIN)/python -m pytest
lint: .venv/installed-dev ; $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/clang-format --dry-run -Werror $(CPP) && $(BIN)/mypy && $(BIN)/lint-imports
format: .venv/installed-dev ; $(BIN)/ruff check --fix && $(BIN)/ruff format && $(BIN)/clang-format -i $(CPP)
bench: .venv/installed-test ; $(BIN)/python benchmarks/margin_inner_product.py
cuda-check: .venv/build-needs ; $(BIN)/cmake -S . -B build/cuda -DSPHEREFACE_CUDA=ON -DSPHEREFACE_WERROR=ON && $(BIN)/cmake --build build/cuda
clean: ; rm -rf .venv build

# An extra of pyproject.toml; torch is there before, so that no second one is fetched to build with.
.venv/installed-%: .venv/build-needs $(BUILT_FROM)
	$(BIN)/python -m pip install --no-build-isolation -e ".[$*]"
	touch $@

.venv/build-needs:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_TORCH_FLAGS) "$(TORCH)"
	$(BIN)/python -m pip install $(BUILD_NEEDS)
	touch $@
