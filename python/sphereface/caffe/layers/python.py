"""Python: a layer class of pycaffe, run unchanged on numpy arrays.

Source: Caffe's python_layer.hpp. The class' `reshape` runs before every forward, and autograd calls
its `backward`. What differs: bottoms are copies, so that a class cannot overwrite what other layers
read; half precision is computed in float32; torch.compile breaks the graph here and torch.export
refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.numpy_blob import BlobVec, NumpyBlob
from sphereface.caffe.registry import register_layer
from sphereface.caffe.user_layer import make_python_layer

__all__ = ["Python"]


@register_layer("Python", param="python_param")
class Python(Layer):
    """The class ``python_param.layer`` of ``python_param.module``; its blobs are blob0, blob1, ...

    `instance` is the object of the class. Its attributes `param_str`, `phase` and `blobs` are
    Caffe's; parameters are written through by in-place edits of ``blobs[i].data``.
    """

    bottoms = at_least(0)
    tops = at_least(0)
    like: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Make the object, run its setup, and take over its blobs."""
        options = self.options
        pairs = zip(self.layer_param.top, self.layer_param.bottom, strict=False)
        self.in_place = tuple(top == bottom for top, bottom in pairs)
        self.instance = make_python_layer(
            options.module, options.layer, self.layer_param, self.where
        )
        self.instance.param_str = options.param_str
        self.instance.phase = int(not self.training)
        self.instance.blobs = BlobVec()
        bottom = [NumpyBlob(shape) for shape in bottom_shapes]
        self.instance.setup(bottom, self.top_blobs(bottom, np.float32))
        for index, blob in enumerate(self.instance.blobs):
            self.add_blob(f"blob{index}", blob.shape)
            # Shared memory: a class may keep a view of its blob's data.
            self.blobs[index].data = torch.from_numpy(blob.data)
        # Tells which device and dtype the net is in, for classes without bottoms.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the shapes that the object's reshape gives the tops for bottoms of zeros."""
        bottom = [NumpyBlob(shape) for shape in bottom_shapes]
        top = self.top_blobs(bottom, np.float32)
        # A copy, so that the state between a forward and its backward stays as it is.
        copy(self.instance).reshape(bottom, top)
        return [blob.shape for blob in top]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the object's reshape and forward."""
        if torch.compiler.is_exporting():
            raise self.error("a Python layer is not made of tensor operations, so it has no export")
        run = _Bridge.apply
        if torch.compiler.is_compiling():
            run = torch.compiler.disable(run)  # or it would trace the class' numpy
        tops = run(self, len(bottoms), *bottoms, *self.blobs)
        return tops[0] if self.top_count == 1 else tops

    def top_blobs(self, bottom: list[NumpyBlob], dtype: Any) -> list[NumpyBlob]:
        """Return empty tops; one that is computed in place is the bottom itself, as in Caffe."""
        shared = [bottom[i] if same else None for i, same in enumerate(self.in_place)]
        shared += [None] * (self.top_count - len(shared))
        return [blob or NumpyBlob(dtype=dtype) for blob in shared]

    def bind_blobs(self, dtype: Any) -> list[NDArray[Any]]:
        """Point the object's blobs at the parameters (copies if not float arrays on the CPU)."""
        arrays = [_numpy(tensor, dtype) for tensor in self.blobs]
        for blob, array in zip(self.instance.blobs, arrays, strict=True):
            blob.bind(array)
        return arrays


class _Bridge(torch.autograd.Function):
    """Runs the object; its inputs are the bottoms, then the parameter blobs."""

    @staticmethod
    def forward(ctx: Any, layer: Python, bottom_count: int, *tensors: Tensor) -> Any:
        bottoms, blobs = tensors[:bottom_count], tensors[bottom_count:]
        like = next((x for x in bottoms if x.is_floating_point()), layer.like)
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        bottom = [NumpyBlob(tuple(x.shape), dtype) for x in bottoms]
        for blob, x in zip(bottom, bottoms, strict=True):
            blob.data[...] = _numpy(x, dtype)
        top = layer.top_blobs(bottom, dtype)
        arrays = layer.bind_blobs(dtype)
        layer.instance.phase = int(not layer.training)
        layer.instance.reshape(bottom, top)
        layer.instance.forward(bottom, top)
        for tensor, array in zip(blobs, arrays, strict=True):
            if tensor.data_ptr() != array.ctypes.data:
                tensor.data.copy_(torch.from_numpy(array))
        ctx.layer, ctx.bottom, ctx.top, ctx.dtype = layer, bottom, top, dtype
        ctx.kinds = [(x.device, x.dtype) for x in tensors]
        return tuple(torch.tensor(b.data, dtype=like.dtype, device=like.device) for b in top)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *top_grads: Tensor) -> Any:
        layer, bottom, top = ctx.layer, ctx.bottom, ctx.top
        layer.bind_blobs(ctx.dtype)
        for blob in bottom:
            blob.diff[...] = 0
        for blob, grad in zip(top, top_grads, strict=True):
            blob.diff[...] = _numpy(grad, ctx.dtype)
        needed = ctx.needs_input_grad[2:]
        layer.instance.backward(top, list(needed[: len(bottom)]), bottom)
        diffs = [blob.diff for blob in (*bottom, *layer.instance.blobs)]
        grads = tuple(
            torch.tensor(diff, dtype=dtype, device=device) if need else None
            for diff, need, (device, dtype) in zip(diffs, needed, ctx.kinds, strict=True)
        )
        return None, None, *grads


def _numpy(tensor: Tensor, dtype: Any) -> NDArray[Any]:
    wanted = torch.float64 if dtype is np.float64 else torch.float32
    return tensor.detach().to("cpu", wanted).contiguous().numpy()
