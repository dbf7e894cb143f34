"""Python: a layer class of pycaffe, run unchanged on numpy arrays.

Source: Caffe's python_layer.hpp. The object sees the same blobs in setup, reshape, forward and
backward; its `reshape` runs before every forward, and autograd calls its `backward`. As in Caffe
what it writes into a bottom is what later layers read; the caller's own tensors stay as they are.
What differs: half precision is computed in float32; torch.compile breaks the graph here and
torch.export refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from sphereface.caffe.blob import Blob, BlobVec, RawBlobVec, unchanged
from sphereface.caffe.graph import at_least
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.user_layer import LayerPhase, make_python_layer

__all__ = ["Python"]


class _Call(NamedTuple):
    """One forward: its number, and what the bottoms and the tops held."""

    number: int
    bottoms: list[NDArray[Any]]
    tops: list[NDArray[Any]]


@register_layer("Python", param="python_param")
class Python(Layer):
    """The class ``python_param.layer`` of ``python_param.module``; its blobs are blob0, blob1, ...

    `instance` is the object of the class. Its attributes `param_str`, `phase` and `blobs` are
    Caffe's; parameters are written through by in-place edits of ``blobs[i].data``. `bottom` and
    `top` are the blobs that its methods get. One that is computed in place is both.
    """

    bottoms = at_least(0)
    tops = at_least(0)
    writes_bottoms = True
    like: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Make the object, run its setup, and take over its blobs."""
        options = self.options
        self.instance = make_python_layer(
            options.module, options.layer, self.layer_param, self.where
        )
        # The second is its name in Caffe's first releases.
        self.instance.param_str = self.instance.param_str_ = options.param_str
        self.instance.phase = LayerPhase(not self.training)
        self.instance.blobs = BlobVec()
        self.bottom = RawBlobVec(Blob(shape) for shape in bottom_shapes)
        names = dict(enumerate(self.layer_param.bottom))
        self.in_place = [names.get(i) == top for i, top in enumerate(self.layer_param.top)]
        self.top = RawBlobVec(
            self.bottom[index] if same else Blob() for index, same in enumerate(self.in_place)
        )
        self.instance.setup(self.bottom, self.top)
        for index, blob in enumerate(self.instance.blobs):
            self.add_blob(f"blob{index}", blob.shape)
            # Shared memory: a class may keep a view of its blob's data.
            self.blobs[index].data = torch.from_numpy(blob.data)
        # Tells which device and dtype the net is in, for classes without bottoms.
        self.register_buffer("like", torch.empty(0), persistent=False)
        self._built = False
        self._forwards = 0

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the shapes of the tops: the first time those of the object's own reshape.

        Afterwards, for other bottoms, those that it would give them.
        """
        if not self._built:
            self._built = True
            self.instance.reshape(self.bottom, self.top)
        elif [blob.shape for blob in self.bottom] != [tuple(shape) for shape in bottom_shapes]:
            with self._unchanged():
                for blob, shape in zip(self.bottom, bottom_shapes, strict=True):
                    blob.reshape(*shape)
                self.instance.reshape(self.bottom, self.top)
                return [blob.shape for blob in self.top]
        return [blob.shape for blob in self.top]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the object's reshape and forward."""
        if torch.compiler.is_exporting():
            raise self.error("a Python layer is not made of tensor operations, so it has no export")
        run = _Bridge.apply
        if torch.compiler.is_compiling():
            run = torch.compiler.disable(run)  # or it would trace the class' numpy
        tops = run(self, len(bottoms), *bottoms, *self.blobs)
        return tops[0] if self.top_count == 1 else tops

    def run(self) -> None:
        """Run the object's reshape and forward on what `bottom` holds."""
        self._forwards += 1
        self.instance.phase = LayerPhase(not self.training)
        self.instance.reshape(self.bottom, self.top)
        self.instance.forward(self.bottom, self.top)

    def run_backward(self, propagate_down: list[bool]) -> None:
        """Run the object's backward on the diffs that `top` holds; parameters' diffs are added."""
        self.instance.backward(self.top, propagate_down, self.bottom)

    def run_on(self, bottoms: Sequence[Tensor], dtype: Any) -> _Call:
        """Run the object's reshape and forward on tensors; see `recall`."""
        arrays = [_numpy(x, dtype) for x in bottoms]
        same = [index for index, same in enumerate(self.in_place) if same]
        for index in same:
            arrays[index] = arrays[index].copy()
        for blob, array in zip(self.bottom, arrays, strict=True):
            blob.bind(array)
        for blob in self.top:
            blob.cast(dtype)
        self.run()
        for index, (x, array) in enumerate(zip(bottoms, arrays, strict=True)):
            if index not in same and x.data_ptr() != array.ctypes.data:
                _write_back(x, array, dtype)
        return _Call(self._forwards, arrays, [blob.data.copy() for blob in self.top])

    def recall(self, call: _Call) -> None:
        """Let the blobs hold what they held in an earlier forward."""
        if call.number != self._forwards:
            for blob, array in zip(self.bottom, call.bottoms, strict=True):
                blob.bind(array)
            for blob, array in zip(self.top, call.tops, strict=True):
                blob.reshape(*array.shape)
                blob.data[...] = array
            self._forwards += 1

    def bind_blobs(self, dtype: Any) -> list[NDArray[Any]]:
        """Point the object's blobs at the parameters (copies if not float arrays on the CPU)."""
        arrays = [_numpy(tensor, dtype) for tensor in self.blobs]
        for blob, array in zip(self.instance.blobs, arrays, strict=True):
            blob.bind(array)
        return arrays

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Let the object and its blobs be after the block what they were before it."""
        attributes = vars(self.instance).copy()
        with unchanged([*self.bottom, *self.top, *self.instance.blobs]):
            yield
        vars(self.instance).clear()
        vars(self.instance).update(attributes)


class _Bridge(torch.autograd.Function):
    """Runs the object; its inputs are the bottoms, then the parameter blobs."""

    @staticmethod
    def forward(ctx: Any, layer: Python, bottom_count: int, *tensors: Tensor) -> Any:
        bottoms, blobs = tensors[:bottom_count], tensors[bottom_count:]
        like = next((x for x in bottoms if x.is_floating_point()), layer.like)
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        arrays = layer.bind_blobs(dtype)
        call = layer.run_on(bottoms, dtype)
        for tensor, array in zip(blobs, arrays, strict=True):
            if tensor.data_ptr() != array.ctypes.data:
                tensor.data.copy_(torch.from_numpy(array))
        ctx.layer, ctx.call, ctx.dtype = layer, call, dtype
        ctx.kinds = [(x.device, x.dtype) for x in tensors]
        return tuple(torch.from_numpy(top).to(like.device, like.dtype) for top in call.tops)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *top_grads: Tensor) -> Any:
        layer = ctx.layer
        layer.bind_blobs(ctx.dtype)
        layer.recall(ctx.call)
        for blob, grad in zip(layer.top, top_grads, strict=True):
            blob.diff[...] = _numpy(grad, ctx.dtype)
        for blob in layer.instance.blobs:
            blob.diff[...] = 0
        needed = ctx.needs_input_grad[2:]
        layer.run_backward(list(needed[: len(layer.bottom)]))
        diffs = [blob.diff for blob in (*layer.bottom, *layer.instance.blobs)]
        grads = tuple(
            torch.tensor(diff, dtype=dtype, device=device) if need else None
            for diff, need, (device, dtype) in zip(diffs, needed, ctx.kinds, strict=True)
        )
        return None, None, *grads


def _numpy(tensor: Tensor, dtype: Any) -> NDArray[Any]:
    wanted = torch.float64 if dtype is np.float64 else torch.float32
    return tensor.detach().to("cpu", wanted).contiguous().numpy()


def _write_back(x: Tensor, array: NDArray[Any], dtype: Any) -> None:
    if not np.array_equal(_numpy(x, dtype), array):
        x.data.copy_(
            torch.from_numpy(array)
        )  # no change of version: as in Caffe, autograd is not told
