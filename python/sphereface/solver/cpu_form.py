"""The form of a net that trains fastest on a CPU.

What differs from the net as it was built: kernels lie in channels-last order, which oneDNN's
forward and image gradient and our kernel gradient want (blobs take it from them); Convolution,
PReLU and InnerProduct call what `sphereface.ops` has for them. Shapes, names and files stay.
benchmarks/training.py measures it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface import ops
from sphereface.caffe import Net
from sphereface.caffe.layers.convolution import Convolution
from sphereface.caffe.layers.inner_product import inner_product
from sphereface.caffe.layers.prelu import prelu
from sphereface.caffe.memory_format import arrange_kernels
from sphereface.ops.bfloat16 import autocast_through_float32, cpu_lacks_bfloat16

__all__ = ["to_cpu_form"]


def to_cpu_form(net: Net) -> None:
    """Give a net that will be trained on the CPU that form.

    To be called before histories are made, which follow the weights' order in memory.
    """
    arrange_kernels(net, torch.channels_last)
    for layer in net.layers:
        if isinstance(layer, Convolution) and layer.convolve is F.conv2d:
            layer.convolve = ops.conv2d
        elif layer.function is prelu:
            layer.compute_by(_prelu)
        # To normalise is to change the weight in place.
        elif layer.function is inner_product and not layer.normalize and cpu_lacks_bfloat16():
            layer.compute_by(autocast_through_float32(inner_product))


def _prelu(x: Tensor, *, weight: Tensor) -> Tensor:
    return ops.prelu(x, weight)
