"""Convolutions whose kernels oneDNN has laid out beforehand.

PyTorch's eager convolution on the CPU rearranges the kernel into oneDNN's blocks in every call;
for one image and SphereFace-20's 47 MB of kernels that is a fifth of the time. Inductor packs them
once when it freezes a module; this does the same without compiling, with the operators it uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layers.convolution import Convolution
from sphereface.caffe.net import Net

__all__ = ["PackedConvolutions", "PackedKernel", "can_pack"]


class PackedConvolutions:
    """Packed kernels of a net, in use inside the block of `applied`.

    They are copies: weights that change later are not seen.

    Parameters
    ----------
    net : Net
        Its 2-D convolutions on the CPU are packed, if this PyTorch can; other layers stay.
    """

    def __init__(self, net: Net) -> None:
        self._packed = [
            (layer, PackedKernel())
            for layer in net.layers
            if isinstance(layer, Convolution) and can_pack(layer)
        ]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layers use their packed kernels, without gradients."""
        for layer, packed in self._packed:
            layer.convolve = packed
        try:
            yield
        finally:
            for layer, _ in self._packed:
                layer.convolve = F.conv2d


class PackedKernel:
    """Stands for F.conv2d; packs again when the image size changes, as the best layout does."""

    def __init__(self) -> None:
        # Replaced together, because several threads may run one net.
        self._packed: tuple[torch.Size | None, Tensor] = (None, torch.empty(0))

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        pad: Sequence[int],
        dilation: Sequence[int],
        group: int,
    ) -> Tensor:
        """Return the convolution."""
        if not x.numel():
            return F.conv2d(x, weight, bias, stride, pad, dilation, group)
        shape, kernel = self._packed
        if x.shape != shape:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            kernel = reorder(weight.detach().to_mkldnn(), pad, stride, dilation, group, x.shape)
            self._packed = (x.shape, kernel)
        operator: Any = torch.ops.mkldnn._convolution_pointwise
        return operator(x, kernel, bias, pad, stride, dilation, group, "none", [], None)


def can_pack(layer: Convolution) -> bool:
    """Tell whether `PackedKernel` can stand for the layer's F.conv2d."""
    operators = torch.ops.mkldnn
    known = hasattr(operators, "_convolution_pointwise") and hasattr(
        torch._C._nn, "mkldnn_reorder_conv2d_weight"
    )
    dtype = layer.weight.dtype
    if dtype == torch.bfloat16:
        known = known and operators._is_mkldnn_bf16_supported()
    return (
        torch.backends.mkldnn.is_available()
        and known
        and layer.weight.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and layer.convolve is F.conv2d
    )
