"""`.pt2` compiled ahead of time: a net as machine code that C++ and Python run by torch alone.

Source: torch._inductor.aoti_compile_and_package. What differs from a TorchExport program: a C++
compiler is needed to write it, loading it runs its code, and it fits processors like this one.
Inputs are positional in the order of ``Net.inputs``; both orders are in its metadata.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from sphereface.caffe import Net
from sphereface.convert.torch_export import exported
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path

__all__ = ["write_aot_inductor"]


def write_aot_inductor(net: Net, path: str | os.PathLike[str], *, images: bool = False) -> None:
    """Compile `net` into a package, which ``torch._inductor.aoti_load_package`` loads.

    In C++ it is ``torch::inductor::AOTIModelPackageLoader``; docs/examples/compiled_net is a
    program. The call takes and returns what `Net.forward` does; weights are constants of the code.

    Parameters
    ----------
    net : Net
        With its weights, on the CPU.
    path : path-like
        File to write, a name that ends in ``.pt2``; only a finished package replaces it.
    images : bool
        Accept other image sizes than those of the prototxt.

    Raises
    ------
    SphereFaceError
        As `sphereface.convert.torch_export.exported`; or torch's compiler or the C++ compiler
        cannot take the net.
    """
    if Path(path).suffix != ".pt2":
        raise SphereFaceError(
            "not a name for a compiled package",
            where=os.fspath(path),
            expected="a name that ends in .pt2",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts about each other
        program = exported(net, os.fspath(path), images=images)
        outputs = list(net(*program.example_inputs[0]))
        configs = {
            "freezing": True,
            "aot_inductor.metadata": {
                "inputs": " ".join(net.inputs),
                "outputs": " ".join(outputs),
            },
        }
        with atomic_path(path) as temporary, torch.no_grad():
            try:
                torch._inductor.aoti_compile_and_package(
                    program, package_path=os.fspath(temporary), inductor_configs=configs
                )
            except RuntimeError as error:
                lines = str(error).strip().splitlines()
                raise SphereFaceError(
                    f'torch cannot compile net "{net.name}": {lines[0] if lines else error}',
                    where=os.fspath(path),
                    fix="see that a C++ compiler (g++) is installed; --to pt2 needs none",
                ) from error
