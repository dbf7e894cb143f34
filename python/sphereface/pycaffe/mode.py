"""CPU or GPU, which GPU, and the random seed: pycaffe's global settings.

Source: Caffe's common.cpp. What differs: GPU mode on a machine without one warns and computes on
the CPU, because old scripts ask for it whatever they run on.
"""

from __future__ import annotations

import warnings

import torch

from sphereface.errors import SphereFaceError

__all__ = ["current_device", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed"]

_CPU = torch.device("cpu")
_gpu_mode = False
_gpu_index = 0


def set_mode_cpu() -> None:
    """Compute on the CPU (as at the start)."""
    global _gpu_mode
    _gpu_mode = False


def set_mode_gpu() -> None:
    """Compute on the GPU of `set_device`; nets follow at their next forward."""
    global _gpu_mode
    _gpu_mode = torch.cuda.is_available()
    if not _gpu_mode:
        warnings.warn("set_mode_gpu: torch finds no GPU; computing on the CPU", stacklevel=2)


def set_device(device_id: int) -> None:
    """Choose the GPU for `set_mode_gpu`."""
    global _gpu_index
    count = torch.cuda.device_count()
    if count and not 0 <= device_id < count:
        raise SphereFaceError(
            f"GPU {device_id}", where="set_device", expected=f"0 to {count - 1}, the GPUs here"
        )
    _gpu_index = device_id


def set_random_seed(seed: int) -> None:
    """Seed fillers, dropout and every other random number of torch."""
    torch.manual_seed(seed)


def current_device() -> torch.device:
    """Return where nets compute now."""
    return torch.device("cuda", _gpu_index) if _gpu_mode else _CPU
