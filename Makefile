# Every target makes what it needs: .venv, the dependencies, the compiled package.
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_TORCH_FLAGS ?=

PY := .venv/bin/python
BUILD_INPUTS := pyproject.toml setup.py $(shell find csrc -type f)

demo: .venv/demo.stamp
	.venv/bin/sphereface demo

# DATA=folder: a folder of photographs for each person.
demo-faces: .venv/test.stamp
	.venv/bin/sphereface demo-faces $(if $(DATA),"$(DATA)")

test: .venv/test.stamp
	$(PY) -m pytest

lint: .venv/dev.stamp
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/clang-format --dry-run -Werror $$(git ls-files '*.h' '*.cpp' '*.c' '*.cu' '*.cuh')
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/dev.stamp
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	.venv/bin/clang-format -i $$(git ls-files '*.h' '*.cpp' '*.c' '*.cu' '*.cuh')

bench: .venv/test.stamp
	$(PY) benchmarks/margin_inner_product.py

wheel: .venv/dev.stamp
	$(PY) tools/make_wheel.py

cuda-check: .venv/test.stamp
	.venv/bin/cmake -S . -B build/cuda -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv/bin/ninja -DSPHEREFACE_CUDA=ON -DSPHEREFACE_WERROR=ON
	.venv/bin/cmake --build build/cuda

# The machine's own Python, no .venv: a rented one has torch and no network. PLAN=1 prints the steps;
# ONLY, SKIP and LIMIT choose, e.g. make gpu ONLY="margin training" LIMIT="margin=90".
gpu:
	$(PYTHON) tools/gpu_check.py $(if $(PLAN),--plan) $(if $(ONLY),--only $(ONLY)) $(if $(SKIP),--skip $(SKIP)) $(if $(LIMIT),--limit $(LIMIT))

gpu-pack: .venv/test.stamp
	$(PY) tools/gpu/pack.py

# Torch comes first, at the version that is tested: a range would let pip choose.
.venv/torch.stamp:
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install $(PIP_TORCH_FLAGS) $(TORCH)
	$(PY) -m pip install --quiet "setuptools>=77" wheel "pybind11>=3.0" "numpy>=1.26" ninja
	touch $@

.venv/built.stamp: .venv/torch.stamp $(BUILD_INPUTS)
	$(PY) -m pip install --no-build-isolation --editable .
	touch $@

# What is installed has the name already: pip adds what the extra names, and compiles nothing.
.venv/%.stamp: .venv/built.stamp
	$(PY) -m pip install "sphereface[$*]"
	touch $@

.PRECIOUS: .venv/torch.stamp
.PHONY: demo demo-faces test lint format bench wheel cuda-check gpu gpu-pack
