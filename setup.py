"""Builds the two extension modules; everything else about the package is in pyproject.toml.

``sphereface._numpy_ops`` (pybind11) is built for one Python. ``sphereface._C`` (the torch
operators) uses only LibTorch's stable ABI and Python's limited API, so one build serves every torch
from 2.10 on and every Python from 3.10 on.

Environment: SPHEREFACE_CUDA=0|1 leaves out or demands the CUDA kernels (default: built when torch
was built for CUDA and nvcc is found), TORCH_CUDA_ARCH_LIST, MAX_JOBS, CUDA_HOME.
"""

import os
import sys
from pathlib import Path

import torch
from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

# 2.10 is the first release whose stable ABI has parallel_for.
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"
INCLUDES = [str(Path(folder).resolve()) for folder in ("csrc", "csrc/include", "csrc/cpu")]
HEADERS = sorted(str(path) for path in Path("csrc").rglob("*.*h"))
CPU_SOURCES = sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp"))
# Kernels of whole nets, which torch alone has; they take longest to compile.
NET_SOURCES = [
    *(path for path in CPU_SOURCES if path.startswith("csrc/cpu/forward_")),
    "csrc/cpu/kernel_gradient.cpp",
    "csrc/cpu/prelu.cpp",
]
CUDA_SOURCES = sorted(str(path) for path in Path("csrc/cuda").glob("*.cu"))
# gcc vectorises no loop that chooses between floats while it must keep their traps apart.
COMPILE = ["-O3", "-std=c++17", "-fno-trapping-math", "-fvisibility=hidden", "-Wall"]


def check_prototxts() -> None:
    """Exit if the packaged nets are not there: a checkout without links has a text file instead."""
    if not any(Path("python/sphereface/prototxt").glob("*.prototxt")):
        sys.exit(
            "sphereface: python/sphereface/prototxt should be a link to models/prototxt; git made a"
            " file of it: set core.symlinks to true and check out again, or put a copy of"
            " models/prototxt there"
        )


def use_cuda() -> bool:
    """Decide whether the CUDA kernels are built, and say so in one line."""
    wanted = os.environ.get("SPHEREFACE_CUDA")
    if wanted not in (None, "", "0", "1"):
        sys.exit(f"SPHEREFACE_CUDA is {wanted!r}; expected 0 or 1")
    missing = []
    if torch.version.cuda is None:
        missing.append(f"torch {torch.__version__} is a build without CUDA")
    elif CUDA_HOME is None:
        missing.append("nvcc was not found (set CUDA_HOME)")
    if wanted == "1" and missing:
        sys.exit(f"sphereface: SPHEREFACE_CUDA=1, but {' and '.join(missing)}")
    build = wanted != "0" and not missing
    reason = "" if build else f": {' and '.join(missing) or 'SPHEREFACE_CUDA=0'}"
    print(f"sphereface: building {'CPU and CUDA' if build else 'CPU only'}{reason}", flush=True)
    return build


def default_archs() -> str:
    """Return every architecture that PyTorch supports and this nvcc knows."""
    cuda = tuple(int(part) for part in str(torch.version.cuda).split(".")[:2])
    archs = ["7.5", "8.0", "8.6", "8.9", "9.0"]
    if cuda >= (12, 8):
        archs += ["10.0", "12.0"]
    return ";".join(archs) + "+PTX"


def torch_extension(cuda: bool) -> CppExtension:
    """Return the torch operators, with the core's kernels compiled in."""
    sources = [
        "csrc/torch/module.c",
        "csrc/torch/library.cpp",
        "csrc/torch/cpu.cpp",
        "csrc/torch/forward_program.cpp",
        "csrc/torch/kernel_gradient.cpp",
        "csrc/torch/prelu.cpp",
    ]
    sources += CPU_SOURCES
    flags = {"cxx": [*COMPILE, TORCH_TARGET]}
    if cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", default_archs())
        sources += ["csrc/torch/cuda.cpp", *CUDA_SOURCES]
        flags["cxx"].append("-DUSE_CUDA")
        flags["nvcc"] = ["-O3", "-std=c++17", TORCH_TARGET]
    extension = CUDAExtension if cuda else CppExtension
    return extension(
        "sphereface._C",
        sources,
        include_dirs=INCLUDES,
        depends=HEADERS,
        extra_compile_args=flags,
        py_limited_api=True,
    )


numpy_extension = Pybind11Extension(
    "sphereface._numpy_ops",
    ["csrc/numpy/module.cpp", *(path for path in CPU_SOURCES if path not in NET_SOURCES)],
    include_dirs=INCLUDES,
    depends=HEADERS,
    cxx_std=17,
    extra_compile_args=[*COMPILE, "-fopenmp"],
    extra_link_args=["-fopenmp"],
)

check_prototxts()
setup(
    ext_modules=[numpy_extension, torch_extension(use_cuda())],
    cmdclass={"build_ext": BuildExtension},
)
