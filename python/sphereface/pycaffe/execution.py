"""A net run layer by layer on blobs that stay: any part of it, forward and backward.

Source: Caffe's Net::ForwardFromTo, BackwardFromTo and Reshape (net.cpp). Each layer's gradient is
torch's, computed from what its last forward recorded and from the diffs in its top blobs; a Python
layer works on the blobs itself. What differs: a layer that was never run forward is run when its
gradient is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe import Layer, OpenNet
from sphereface.caffe.blob import Blob, BlobVec, layout_version
from sphereface.caffe.layers.python import Python
from sphereface.data import Source, reads_data
from sphereface.pycaffe.backward_plan import plan_backward
from sphereface.pycaffe.mode import current_device
from sphereface.pycaffe.prepared import Prepared, Step
from sphereface.pycaffe.sources import LayerSources, feed

__all__ = ["AUTOMATIC_TOP", "Execution", "Hook"]

AUTOMATIC_TOP = "(automatic)"
"""Caffe's name for the top that a loss layer has without being given one."""


Hook = Callable[[int], object]


class _Record(NamedTuple):
    """What a layer's forward left for its backward."""

    bottoms: Sequence[Tensor]
    tops: tuple[Tensor, ...]


class Execution:
    """The blobs of a built net, and the passes over them.

    Parameters
    ----------
    opened : OpenNet
        Of `open_with_splits`, on the CPU.

    Attributes
    ----------
    blobs : BlobVec
        By Caffe's blob number; what is written in place is one blob.
    blob_names : list of str
        Their names.
    bottom_ids, top_ids : list of list of int
        Blob numbers of each layer.
    params : list of BlobVec
        Parameter blobs of each layer.
    sources : dict
        Index of a data layer to what feeds it.
    before_forward, after_forward, before_backward, after_backward : list of callable
        Called with a layer's index around its part of a pass.
    """

    def __init__(self, opened: OpenNet) -> None:
        self.net = net = opened.net
        self.blobs = BlobVec()
        self.blob_names: list[str] = []
        self.bottom_ids: list[list[int]] = []
        self.top_ids: list[list[int]] = []
        self._add_blobs()
        self._losses = [self._weighted_tops(index) for index in range(len(net.layers))]
        self._owners: list[tuple[BlobVec, int, Layer, str]] = []
        self.params = self._param_blobs()
        if net.force_backward:
            for parameter in net.parameters():
                parameter.requires_grad_()
        self.plan = plan_backward(net)
        self.sources: dict[int, Source] = {}
        if isinstance(opened.source, LayerSources):
            reading = [i for i, node in enumerate(net.graph.nodes) if reads_data(node.param)]
            self.sources.update(zip(reading, opened.source.members.values(), strict=True))
        self.before_forward: list[Hook] = []
        self.after_forward: list[Hook] = []
        self.before_backward: list[Hook] = []
        self.after_backward: list[Hook] = []
        self._records: list[_Record | None] = [None] * len(net.layers)
        self._checked: list[Any] = [None] * len(net.layers)
        self._device = torch.device("cpu")
        self._modes = [self._grad_mode(index) for index in range(len(net.layers))]
        self._known_runs: dict[tuple[int, int], list[tuple[int, int, bool | None]]] = {}
        # What holds while `layout_version` stays: memory of layers and of parameters.
        self._steps: dict[int, Step] = {}
        self._prepared: dict[tuple[int, int], Prepared] = {}
        self._steps_layout = -1
        self._bound: list[Tensor] = []
        self._pointers: list[int] = []
        self._bound_layout = -1

    # ---- passes

    def forward(self, start: int, end: int) -> float:
        """Run layers `start` to `end` on what their bottoms hold; return their weighted loss."""
        self.place(current_device())
        hooked = bool(self.before_forward or self.after_forward)
        loss = 0.0
        for first, last, mode in self._runs(start, end, alone=hooked):
            _call(self.before_forward, first)
            if mode is None:
                loss += self._forward_layers(first, last)
            else:
                with torch.set_grad_enabled(mode):
                    loss += self._forward_layers(first, last)
            _call(self.after_forward, first)
        return loss

    def backward(self, start: int, end: int) -> None:
        """Run layers `start` down to `end` backward from the diffs of their tops.

        Bottom diffs are overwritten, parameter diffs added to.
        """
        self.place(current_device())
        for index in range(start, end - 1, -1):
            _call(self.before_backward, index)
            if self.plan.layers[index] and not self.net.layers[index].is_input:
                self._backward_layer(index)
            _call(self.after_backward, index)

    def reshape(self) -> None:
        """Give every blob the shape that follows from the input blobs."""
        for index, layer in enumerate(self.net.layers):
            if isinstance(layer, Python):
                layer.instance.reshape(layer.bottom, layer.top)
            elif not layer.is_input:
                shapes = self._check_shapes(index)
                for blob, shape in zip(self._tops(index), shapes, strict=True):
                    blob.reshape(*shape)

    def to_host(self) -> None:
        """Let the net's layers use the parameter blobs' host memory, to read or replace it."""
        self._bind(torch.device("cpu"))

    def place(self, device: torch.device) -> None:
        """Let the net compute on `device`, with the memory of the parameter blobs."""
        if device != self._device:
            self.net.to(device)
            self._device = device
            self._records = [None] * len(self._records)
            self._steps_layout = -1
        pointers = [tensor.data_ptr() for tensor in self._bound]
        if self._bound_layout != layout_version() or pointers != self._pointers:
            self._bind(device)

    # ---- one layer

    def _runs(self, start: int, end: int, *, alone: bool) -> list[tuple[int, int, bool | None]]:
        """Return the first and last layer of runs of one mode, or each layer alone, and the mode.

        Setting torch's mode takes as long as a small layer.
        """
        if alone:
            return [(index, index, self._modes[index]) for index in range(start, end + 1)]
        if (start, end) not in self._known_runs:
            runs = [
                (list(run), mode)
                for mode, run in groupby(range(start, end + 1), self._modes.__getitem__)
            ]
            self._known_runs[start, end] = [(run[0], run[-1], mode) for run, mode in runs]
        return self._known_runs[start, end]

    def _grad_mode(self, index: int) -> bool | None:
        """Return whether torch records a layer's forward; None is as the caller has it."""
        layer = self.net.layers[index]
        return None if layer.is_input or isinstance(layer, Python) else self.plan.layers[index]

    def _forward_layers(self, first: int, last: int) -> float:
        """Run layers of one mode; return their weighted loss."""
        if self._steps_layout == layout_version() and (first, last) in self._prepared:
            stopped = self._prepared[first, last].run(self._store)
            if stopped is None:
                return 0.0
            first = stopped + 1
        layout = layout_version()
        loss = sum(self._forward_layer(index) for index in range(first, last + 1))
        if layout == layout_version() == self._steps_layout:
            self._prepare(first, last)
        return loss

    def _prepare(self, first: int, last: int) -> None:
        """Keep the steps of layers that ran, if they are all that there is to do."""
        indices = [i for i in range(first, last + 1) if self.net.layers[i].type != "Split"]
        plain = all(i in self._steps and not self._losses[i] for i in indices)
        if plain and self._modes[first] is False:
            self._prepared[first, last] = Prepared(indices, [self._steps[i] for i in indices])

    def _forward_layer(self, index: int) -> float:
        layer = self.net.layers[index]
        if layer.is_input:
            if index in self.sources:
                feed(self.sources[index], layer, self._tops(index))
        elif layer.type == "Split":
            for top in self._tops(index):
                top.share_data(self.blobs[self.bottom_ids[index][0]])
        elif isinstance(layer, Python):
            layer.run()
        else:
            record = self._run(index, self._step(index))
            self._store(index, record.tops)
            self._records[index] = record if self.plan.layers[index] else None
        weighted = self._losses[index]
        return sum(weight * float(blob.data.sum()) for blob, weight in weighted) if weighted else 0

    def _store(self, index: int, values: Sequence[Tensor]) -> None:
        """Give the tops of a layer the shapes and the values of what it computed."""
        for top, value in zip(self._tops(index), values, strict=True):
            top.reshape(*value.shape)
            top.data_tensor(self._device, write=True).copy_(value.detach())

    def _run(self, index: int, step: Step) -> _Record:
        """Compute a layer in the mode that it is called in."""
        values = [value.clone() for value in step.bottoms] if step.in_place else step.bottoms
        if self.plan.layers[index]:
            # `data` has a version counter of its own: what a program edits is its affair.
            values = [
                value.data.requires_grad_(wanted)
                for value, wanted in zip(values, self.plan.bottoms[index], strict=True)
            ]
        result = step.layer(*values)
        return _Record(values, result if isinstance(result, tuple) else (result,))

    def _step(self, index: int) -> Step:
        """Return a layer with the memory of its blobs, which is looked up once while it stays."""
        if self._steps_layout != layout_version():
            self._steps.clear()
            self._prepared.clear()
            self._steps_layout = layout_version()
        step = self._steps.get(index)
        if step is None:
            self._check_shapes(index)
            bottoms = [self.blobs[i].data_tensor(self._device) for i in self.bottom_ids[index]]
            tops = [top.data_tensor(self._device, write=True) for top in self._tops(index)]
            in_place = not set(self.bottom_ids[index]).isdisjoint(self.top_ids[index])
            step = Step(self.net.layers[index], bottoms, tops, in_place)
            if self._device.type == "cpu":  # elsewhere every access may copy
                self._steps[index] = step
        return step

    def _backward_layer(self, index: int) -> None:
        layer = self.net.layers[index]
        bottoms = [self.blobs[blob_id] for blob_id in self.bottom_ids[index]]
        if isinstance(layer, Python):
            layer.run_backward(self.plan.bottoms[index])
            return
        if layer.type == "Split":
            diffs = torch.stack([top.diff_tensor(self._device) for top in self._tops(index)])
            bottoms[0].diff_tensor(self._device, write=True).copy_(diffs.sum(0))
            return
        for blob in bottoms:
            blob.data_tensor(self._device)  # what the program edited reaches the record's memory
        record = self._records[index]
        if record is None:
            with torch.enable_grad():
                record = self._run(index, self._step(index))
            self._records[index] = record
        wanted = self.plan.bottoms[index]
        params = self._learning(index)
        into = [value for value, wish in zip(record.bottoms, wanted, strict=True) if wish]
        grads = self._gradients(index, record, into + [tensor for _, tensor in params])
        targets = [blob for blob, wish in zip(bottoms, wanted, strict=True) if wish]
        for blob, grad in zip(targets, grads, strict=False):
            diff = blob.diff_tensor(self._device, write=True)
            diff.zero_() if grad is None else diff.copy_(grad)
        for (blob, _), grad in zip(params, grads[len(into) :], strict=True):
            if grad is not None:
                blob.diff_tensor(self._device, write=True).add_(grad)

    def _gradients(
        self, index: int, record: _Record, inputs: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        in_place = set(self.bottom_ids[index]).intersection(self.top_ids[index])
        outputs, diffs = [], []
        for value, blob in zip(record.tops, self._tops(index), strict=True):
            if not value.requires_grad:
                continue
            if value.shape != blob.shape:
                raise self.net.layers[index].error(
                    f"backward with a top of shape {blob.shape}",
                    expected=f"{tuple(value.shape)}, its shape in the last forward",
                    fix="run forward after a reshape",
                )
            diff = blob.diff_tensor(self._device)
            outputs.append(value)
            diffs.append(diff.clone() if in_place else diff)
        if not outputs or not inputs:
            return (None,) * len(inputs)
        return torch.autograd.grad(outputs, inputs, diffs, retain_graph=True, allow_unused=True)

    def _check_shapes(self, index: int) -> Any:
        """Return the shapes of a layer's tops, or raise Caffe's error for its bottoms."""
        bottoms = [self.blobs[blob_id].shape for blob_id in self.bottom_ids[index]]
        known = self._checked[index]
        if known is None or known[0] != bottoms:
            known = self._checked[index] = (bottoms, self.net.layers[index].reshape(bottoms))
        return known[1]

    # ---- blobs

    def _tops(self, index: int) -> list[Blob]:
        return [self.blobs[blob_id] for blob_id in self.top_ids[index]]

    def _weighted_tops(self, index: int) -> list[tuple[Blob, float]]:
        weights = self.net.layers[index].loss_weight
        return [(top, w) for top, w in zip(self._tops(index), weights, strict=True) if w]

    def _add_blobs(self) -> None:
        graph = self.net.graph
        names, shapes = graph.blob_names, self.net.infer_shapes({})
        ids: dict[int, int] = {}
        for node, layer in zip(graph.nodes, self.net.layers, strict=True):
            if isinstance(layer, Python):
                for blob, slot in zip(layer.bottom, node.bottoms, strict=True):
                    blob.join(self.blobs[ids[slot]])
            for position, slot in enumerate(node.tops):
                bottom = node.bottoms[position] if position < len(node.bottoms) else -1
                if bottom >= 0 and names[slot] == names[bottom]:
                    ids[slot] = ids[bottom]
                else:
                    ids[slot] = len(self.blobs)
                    self.blobs.append(layer.top[position] if isinstance(layer, Python) else Blob())
                    self.blob_names.append(names[slot] or AUTOMATIC_TOP)
                blob = self.blobs[ids[slot]]
                blob.reshape(*shapes[slot])
                if layer.loss_weight[position]:
                    # From the start; a loss' backward begins with it.
                    blob.diff[...] = layer.loss_weight[position]
            self.bottom_ids.append([ids[slot] for slot in node.bottoms])
            self.top_ids.append([ids[slot] for slot in node.tops])

    def _param_blobs(self) -> list[BlobVec]:
        """Return the parameter blobs of each layer; shared ones share data and diff."""
        known: dict[int, Blob] = {}
        params: list[BlobVec] = []
        for layer in self.net.layers:
            if isinstance(layer, Python):
                layer.bind_blobs(np.float32)
                params.append(layer.instance.blobs)
            else:
                params.append(BlobVec(map(Blob.of, layer.blobs)))
            named = zip(layer.blob_names, layer.blobs, params[-1], strict=True)
            for position, (name, tensor, blob) in enumerate(named):
                owner = known.setdefault(tensor.data_ptr(), blob)
                if owner is blob:
                    self._owners.append((params[-1], position, layer, name))
                else:
                    shape = blob.shape
                    blob.share_data(owner)
                    blob.share_diff(owner)
                    blob.reshape(*shape)
        return params

    def _learning(self, index: int) -> list[tuple[Blob, Tensor]]:
        tensors = self.net.layers[index].blobs
        return [
            (blob, tensor)
            for blob, tensor in zip(self.params[index], tensors, strict=True)
            if tensor.requires_grad
        ]

    def _bind(self, device: torch.device) -> None:
        """Let the layers compute with the memory of the parameter blobs."""
        self._bound.clear()
        for blobs, position, layer, name in self._owners:
            memory = blobs[position].data_tensor(device, write=True)  # a program may put another
            tensor = getattr(layer, name)
            if tensor.data_ptr() != memory.data_ptr() or tensor.shape != memory.shape:
                tensor.data = memory
            self._bound.append(tensor)
        self._pointers = [tensor.data_ptr() for tensor in self._bound]
        lasts = device.type == self._device.type == "cpu"  # elsewhere every access may copy
        self._bound_layout = layout_version() if lasts else -1


def _call(hooks: Iterable[Hook], index: int) -> None:
    for hook in hooks:
        hook(index)
