"""Local: a convolution whose kernel is another one at each position.

Source: local_layer.cpp of a proposal to BVLC's Caffe that many forks took up (face recognisers for
DeepFace and DeepID). What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["Local", "local"]


def local(
    x: Tensor, *, weight: Tensor, bias: Tensor | None, kernel: int, pad: int, stride: int
) -> Tensor:
    """Return (N, outputs, H', W')."""
    patches = F.unfold(x, kernel, padding=pad, stride=stride)  # (N, C kernel kernel, H' W')
    y = torch.einsum("nkp,mkp->nmp", patches, weight[:, 0])
    if bias is not None:
        y = y + bias[0]
    height = (x.shape[2] + 2 * pad - kernel) // stride + 1
    return y.unflatten(2, (height, -1))


@register_layer("Local", param="local_param")
class Local(Layer):
    """Each position of the top has weights of its own for the patch below it.

    Blobs: ``weight`` (num_output, 1, C kernel_size^2, H' W') and, with ``bias_term``, ``bias``
    (1, 1, num_output, H' W'), which fix the size of the images.
    """

    function = staticmethod(local)
    weight: Tensor
    bias: Tensor | None

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Create the blobs."""
        options, shape = self.options, bottom_shapes[0]
        self.kernel, self.pad, self.stride = options.kernel_size, options.pad, options.stride
        if min(self.kernel, self.stride, options.num_output) < 1:
            raise self.error(
                f"kernel_size {self.kernel}, stride {self.stride}, num_output {options.num_output}",
                expected="at least 1",
            )
        least = max(1, self.kernel - 2 * self.pad)
        if len(shape) != 4 or min(shape[2:]) < least:
            raise self.error(
                f"bottom of shape {shape}", expected=f"(N, C, H, W), H and W at least {least}"
            )
        self.image = shape[1:]
        self.size = tuple((s + 2 * self.pad - self.kernel) // self.stride + 1 for s in shape[2:])
        places, count = self.size[0] * self.size[1], options.num_output
        self.add_blob(
            "weight", (count, 1, shape[1] * self.kernel**2, places), options.weight_filler
        )
        if options.bias_term:
            self.add_blob("bias", (1, 1, count, places), options.bias_filler)
        else:
            self.bias = None

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that the images have the size that the weights are for."""
        shape = bottom_shapes[0]
        if shape[1:] != self.image:
            raise self.error(
                f"bottom of shape {shape}",
                expected=f"(N, {', '.join(map(str, self.image))}), for which the weights are",
            )
        return [(shape[0], self.weight.shape[0], *self.size)]
