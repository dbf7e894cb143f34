"""``caffe.Net``: pycaffe's net over a net of `sphereface.caffe`.

Source: python/caffe/pycaffe.py and _caffe.cpp. The calls, what they return and what they refuse are
theirs; a mistake is a SphereFaceError that says what to do. docs/pycaffe.md lists the differences.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.caffe import OpenNet
from sphereface.caffe.load import own_weights
from sphereface.data import MemoryData
from sphereface.errors import SphereFaceError, nearest
from sphereface.pycaffe.batches import each_batch, joined
from sphereface.pycaffe.build import open_with_splits
from sphereface.pycaffe.execution import Execution, Hook
from sphereface.pycaffe.ranks import NCCL
from sphereface.pycaffe.sources import set_arrays
from sphereface.pycaffe.structure import NetStructure

__all__ = ["Net"]

Arrays = dict[str, NDArray[np.float32]]


class Net(NetStructure):
    """A Caffe net whose blobs are numpy arrays.

    ``Net(network_file, phase, level=0, stages=None, weights=None)``, or as older scripts say
    ``Net(network_file, weights, phase)``.

    Parameters
    ----------
    network_file : path
        The prototxt, or a caffemodel alone, whose definitions make the net.
    phase : {TRAIN, TEST}
        `sphereface.pycaffe.TRAIN` or `TEST`.
    level, stages : int, sequence of str
        Further parts of the net state.
    weights : path, optional
        A caffemodel, or weights in any other format, told by content.

    Attributes
    ----------
    module : sphereface.caffe.Net
        The torch module behind it.
    execution : Execution
        Its blobs, and what runs it on them.
    """

    def __init__(self, network_file: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        legacy = bool(args) and not isinstance(args[0], (int, np.integer))
        names = ("weights", "phase") if legacy else ("phase", "level", "stages", "weights")
        given = _arguments(names, args, kwargs)
        weights = given.get("weights")
        if weights is None:
            weights = own_weights(network_file)
        opened = open_with_splits(
            network_file,
            given["phase"],
            given.get("level", 0),
            given.get("stages") or (),
            fill=weights is None,
        )
        self._adopt(opened)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, opened: OpenNet) -> Net:
        """Return the net over what `open_with_splits` returned (a solver's)."""
        net = Net.__new__(cls)
        net._adopt(opened)
        return net

    def _adopt(self, opened: OpenNet) -> None:
        self.module = opened.net
        self.execution = Execution(opened)

    # ---- passes

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> Arrays:
        """Run the net, or the layers from `start` to `end`, on what the blobs hold.

        Parameters
        ----------
        blobs : sequence of str, optional
            Blobs to return besides the outputs.
        start, end : str, optional
            Names of the first and the last layer to run.
        **kwargs : ndarray
            Every input by name, of the batch size of its blob.

        Returns
        -------
        dict of str to ndarray
            The outputs (with `end`, the tops of that layer) and `blobs`: views, which the next
            forward overwrites.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self.module.layers) - 1 if end is None else self._layer_index(end)
        tops = self.outputs if end is None else self.top_names[end]
        names = self._known({*tops, *(blobs or ())})
        self._assign("data", kwargs, self.inputs, "Input blob arguments do not match net inputs")
        self._forward(first, last)
        return {name: self.blobs[name].data for name in names}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> Arrays:
        """Run the net backward, or from layer `start` down to layer `end`, on the tops' diffs.

        Parameter diffs are added to what they are. A gradient is computed where Caffe computes
        one: between parameters and a loss, or everywhere with ``force_backward: true``.

        Parameters
        ----------
        diffs : sequence of str, optional
            Blobs whose diffs to return besides those of the inputs.
        start, end : str, optional
            Names of the first (nearest the outputs) and the last layer to run.
        **kwargs : ndarray
            The diff of every output by name, of the batch size of its blob.

        Returns
        -------
        dict of str to ndarray
            Diffs of the inputs (with `end`, the bottoms of that layer) and of `diffs`: views.
        """
        first = len(self.module.layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        bottoms = self.inputs if end is None else self.bottom_names[end]
        names = self._known({*bottoms, *(diffs or ())})
        self._assign("diff", kwargs, self.outputs, "Top diff arguments do not match net outputs")
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> Arrays:
        """Run any number of inputs in batches of the net's size; return copies of all outputs."""
        _check_some(kwargs, self.inputs)
        results = [
            {name: array.copy() for name, array in self.forward(blobs=blobs, **batch).items()}
            for batch in each_batch(kwargs, self._batch_size())
        ]
        return joined(results, len(next(iter(kwargs.values()))))

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> tuple[Arrays, Arrays]:
        """Run any number of inputs and output diffs in batches, forward and backward.

        Returns
        -------
        outputs, diffs : dict of str to ndarray
            As `forward` and `backward` return them, all batches joined.
        """
        known = [*self.inputs, *self.outputs]
        _check_some(kwargs, known)
        for name in kwargs:
            if name not in known:
                raise SphereFaceError(
                    f'"{name}" is no input or output', where="forward_backward_all",
                    fix=nearest(name, known),
                )  # fmt: skip
        outs: list[Arrays] = []
        grads: list[Arrays] = []
        for batch in each_batch(kwargs, self._batch_size()):
            data = {name: array for name, array in batch.items() if name in self.inputs}
            top_diffs = {name: array for name, array in batch.items() if name not in data}
            out = self.forward(blobs=blobs, **data)
            outs.append({name: array.copy() for name, array in out.items()})
            grad = self.backward(diffs=diffs, **top_diffs)
            grads.append({name: array.copy() for name, array in grad.items()})
        count = len(next(iter(kwargs.values())))
        return joined(outs, count), joined(grads, count)

    def reshape(self) -> None:
        """Give every blob the shape that follows from the inputs' shapes now."""
        self.execution.reshape()

    def clear_param_diffs(self) -> None:
        """Set the diffs of all parameter blobs to zero."""
        for blobs in self.execution.params:
            for blob in blobs:
                blob.diff[...] = 0

    def before_forward(self, hook: Hook) -> None:
        """Call ``hook(index)`` before each layer's forward, from now on."""
        self.execution.before_forward.append(hook)

    def after_forward(self, hook: Hook) -> None:
        """Call ``hook(index)`` after each layer's forward, from now on."""
        self.execution.after_forward.append(hook)

    def before_backward(self, hook: Hook) -> None:
        """Call ``hook(index)`` before each layer's backward, from the last layer to the first."""
        self.execution.before_backward.append(hook)

    def after_backward(self, hook: Hook | NCCL) -> None:
        """Call ``hook(index)`` after each layer's backward; an `NCCL` has nothing to do there."""
        if not isinstance(hook, NCCL):
            self.execution.after_backward.append(hook)

    def _forward(self, start: int, end: int) -> float:
        return self.execution.forward(start, end)

    def _backward(self, start: int, end: int) -> None:
        if not any(self.execution.plan.layers):
            warnings.warn(
                f'net "{self.module.name}" has no loss, so backward computes nothing; put '
                '"force_backward: true" into its prototxt for gradients',
                stacklevel=3,
            )
        self.execution.backward(start, end)

    # ---- weights

    def copy_from(self, filename: str | os.PathLike[str]) -> None:
        """Copy trained weights, of any format, into the layers of the same names."""
        self.execution.to_host()
        self.module.copy_from(filename)

    def load_hdf5(self, filename: str | os.PathLike[str]) -> None:
        """Copy trained weights of an HDF5 file into the layers of the same names."""
        self.copy_from(filename)

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write a binary caffemodel."""
        self._write(filename, ".caffemodel")

    def save_hdf5(self, filename: str | os.PathLike[str]) -> None:
        """Write an HDF5 caffemodel."""
        self._write(filename, ".h5")

    def share_with(self, other: Net) -> None:
        """Use the weights' memory of the layers of the same names in `other`.

        Raises
        ------
        SphereFaceError
            A layer has other numbers or shapes of blobs there; nothing is shared then.
        """
        theirs = {name: blobs for name, blobs in other.params.items() if name in self.params}
        for name, blobs in theirs.items():
            here, there = ([blob.shape for blob in side] for side in (self.params[name], blobs))
            if here != there:
                raise SphereFaceError(
                    f"blobs of shapes {there}", where=f'share_with: layer "{name}"',
                    expected=f"{here}",
                )  # fmt: skip
        for name, blobs in theirs.items():
            for blob, source in zip(self.params[name], blobs, strict=True):
                blob.share_data(source)

    def _write(self, filename: str | os.PathLike[str], suffix: str) -> None:
        # The suffix decides the format below, and pycaffe's callers name files as they like.
        self.execution.to_host()
        target = Path(filename)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            written = Path(folder) / f"weights{suffix}"
            self.module.save(written)
            written.replace(target)

    # ---- inputs

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Give the MemoryData layer that the net begins with its images and labels.

        Parameters
        ----------
        data : ndarray of shape (N, C, H, W)
            float32, C-contiguous, N a multiple of the batch size.
        labels : ndarray of shape (N,) or (N, 1, 1, 1)
            float32.
        """
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        self._set_input_arrays(data, labels)

    def _set_input_arrays(self, data: Any, labels: Any) -> None:
        source = self.execution.sources.get(0)
        if not isinstance(source, MemoryData):
            raise SphereFaceError(
                "set_input_arrays may only be called if the first layer is a MemoryData layer",
                where=f'net "{self.module.name}"',
            )
        set_arrays(source, self.module.layers[0], data, labels)

    def _assign(
        self, which: str, arrays: Mapping[str, Any], expected: list[str], problem: str
    ) -> None:
        """Write the keyword arguments of a pass into the blobs."""
        if not arrays:
            return
        if set(arrays) != set(expected):
            raise SphereFaceError(
                f"{problem}: {', '.join(sorted(arrays))}", expected=", ".join(expected) or "none"
            )
        for name, array in arrays.items():
            target = getattr(self.blobs[name], which)
            if np.shape(array)[:1] != target.shape[:1]:
                kind = "Input" if which == "data" else "Diff"
                raise SphereFaceError(
                    f'{kind} is not batch sized: "{name}" has shape {np.shape(array)}',
                    expected=f"{target.shape}",
                    fix=f'net.blobs["{name}"].reshape(...) changes the batch size',
                )
            target[...] = array

    def _batch(self, blobs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        return each_batch(blobs, self._batch_size())

    def _batch_size(self) -> int:
        return self._blobs[0].shape[0]

    # ---- names

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            raise SphereFaceError(
                f'net "{self.module.name}" has no layer "{name}"',
                fix=nearest(name, self._layer_names),
            )
        return self._layer_names.index(name)

    def _known(self, names: Iterable[str]) -> list[str]:
        names = sorted(names)
        for name in names:
            if name not in self.blobs:
                raise SphereFaceError(
                    f'net "{self.module.name}" has no blob "{name}"', fix=nearest(name, self.blobs)
                )
        return names


def _arguments(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Bind the arguments of `Net` after the file."""
    given = dict(zip(names, args, strict=False))
    wrong = len(args) > len(names) or set(kwargs) - set(names) or set(kwargs) & set(given)
    given.update(kwargs)
    if wrong or "phase" not in given:
        raise SphereFaceError(
            f"Net(network_file, {', '.join([*map(repr, args), *kwargs])})",
            expected="Net(network_file, phase, level=0, stages=None, weights=None) "
            "or Net(network_file, weights, phase)",
        )
    return given


def _check_some(arrays: Mapping[str, Any], names: Sequence[str]) -> None:
    if not arrays:
        raise SphereFaceError(
            "no arrays to make batches of", expected=f"arguments by name: {', '.join(names)}"
        )
