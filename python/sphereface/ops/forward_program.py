"""`run_program`: a convolutional net's forward as a list of steps over images in NHWC order.

csrc/cpu/forward_program.h has the steps; `sphereface.inference.fused.native` writes them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sphereface.ops._library import call

__all__ = ["run_program"]


def run_program(buffers: list[Tensor], constants: Tensor, program: Tensor) -> None:
    """Run the steps of `program`, which write into `buffers`.

    Parameters
    ----------
    buffers : list of Tensor
        float32 on the CPU, without holes in their memory.
    constants : Tensor of shape (K,), float32
        Weights, biases and slopes.
    program : Tensor of shape (steps, fields), int64

    Raises
    ------
    RuntimeError
        A step reads or writes outside of its memory.
    """
    operator: Any = torch.ops.sphereface.run_program
    call(operator, buffers, constants, program)
