"""An ONNX graph under construction: nodes, constants and the names of values.

What the files of this folder, one a layer, write into. Their functions take the graph, the layer
and the values of its bottoms, and return the name of the value that each top has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sphereface.caffe import Layer, Net
from sphereface.caffe.registry import LayerTable
from sphereface.convert.dynamic import DynamicShape
from sphereface.extras import require

__all__ = ["ONNX_LAYERS", "Emitter", "OnnxGraph", "Value", "onnx_layer", "onnx_package"]


class Value(NamedTuple):
    """A blob: its name in the ONNX graph and its sizes, None where they may change."""

    name: str
    shape: DynamicShape


Emitter: TypeAlias = Callable[..., "str | Sequence[str]"]
ONNX_LAYERS: LayerTable[Emitter] = LayerTable()
"""Layer type to the function that writes it: ``function(graph, layer, *bottoms)``."""

E = TypeVar("E", bound=Emitter)


def onnx_layer(*types: str) -> Callable[[E], E]:
    """Register the decorated function for layer types; a type of your own is registered alike.

    Examples
    --------
    >>> @onnx_layer("Gain")
    ... def gain(graph, layer, x):
    ...     return graph.node("Mul", x.name, graph.constant(layer.gain))
    """

    def register(function: E) -> E:
        for name in types:
            ONNX_LAYERS.add(name, function)
        return function

    return register


def onnx_package() -> ModuleType:
    """Import onnx, or tell how to install it."""
    require("onnx.numpy_helper", "onnx")
    onnx: ModuleType = require("onnx", "onnx")
    return onnx


class OnnxGraph:
    """Nodes, initializers and names, in the order of the net.

    Attributes
    ----------
    nodes : list of NodeProto
    initializers : list of TensorProto
        Parameters, under their keys in the state_dict, and constants.
    """

    def __init__(self, net: Net) -> None:
        self.onnx = onnx_package()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        # Of a blob written in place the last version has its name, because readers by name mean
        # that one; unless the name is an input's.
        inputs = net.graph.inputs
        self._last = {slot: name for name, slot in net.graph.blobs.items() if name not in inputs}
        self._blob_names = net.graph.blob_names
        self._taken = set(net.graph.blobs)
        self._tops = set(net.graph.inputs)
        self._key = self._name = ""
        self._first = 0

    def add_layer(
        self, layer: Layer, key: str, bottoms: Sequence[Value], slots: Sequence[int]
    ) -> list[str]:
        """Write `layer` and return the names of its tops, those of their blobs.

        Raises
        ------
        SphereFaceError
            The layer has no ONNX form.
        """
        emit = ONNX_LAYERS.find(layer)
        if emit is None:
            raise layer.error(
                f"layer type {layer.type} has no ONNX form",
                fix="convert a deploy prototxt, without data and losses, or register one with"
                " sphereface.convert.onnx.onnx_layer",
            )
        self._name, self._key, self._first = layer.name, key, len(self.nodes)
        tops = emit(self, layer, *bottoms)
        tops = [tops] if isinstance(tops, str) else list(tops)
        return [self._top(top, slot) for top, slot in zip(tops, slots, strict=True)]

    def node(self, op: str, *inputs: str | Value, **attributes: Any) -> str:
        """Add a node with one output and return the output's name; attributes of None are left."""
        return self.split_node(op, *inputs, outputs=1, **attributes)[0]

    def split_node(
        self, op: str, *inputs: str | Value, outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs and return their names."""
        name = self._unique(f"{self._name}/{op}")
        results = (name, *(self._unique(f"{name}:{i}") for i in range(1, outputs)))
        names = [x if isinstance(x, str) else x.name for x in inputs]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(op, names, results, name=name, **given))
        return results

    def scan(
        self,
        body: Callable[[Sequence[str], Sequence[str]], tuple[Sequence[str], str]],
        states: Sequence[str],
        sequences: Sequence[str],
    ) -> tuple[list[str], str]:
        """Add a loop over axis 0 of `sequences`.

        Parameters
        ----------
        body : callable
            Adds the nodes of one step: takes the names of the states and of the sequences' elements
            and returns those of the next states and of the step's output.
        states : sequence of str
            Names of the states before the first step.
        sequences : sequence of str
            Names of values of as many elements each.

        Returns
        -------
        states : list of str
            After the last step.
        output : str
            The steps' outputs, stacked on axis 0.
        """
        outer, self.nodes = self.nodes, []
        names = [self._unique(f"{self._name}/step") for _ in (*states, *sequences)]
        after, output = body(names[: len(states)], names[len(states) :])
        # A copy, because a name cannot be a state and an output.
        results = [*after, self.node("Identity", output)]
        infos = [[self._any_shape(name) for name in group] for group in (names, results)]
        step = self.onnx.helper.make_graph(self.nodes, f"{self._name}/body", *infos)
        self.nodes = outer
        scanned = {"body": step, "num_scan_inputs": len(sequences)}
        *last, stacked = self.split_node(
            "Scan", *states, *sequences, outputs=len(results), **scanned
        )
        return last, stacked

    def constant(self, value: Tensor | npt.ArrayLike, blob: str = "") -> str:
        """Add a float32 constant and return its name, ``layer.blob`` for a parameter blob."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        return self._initializer(array.astype(np.float32), blob)

    def integers(self, values: npt.ArrayLike) -> str:
        """Add an int64 constant, as shapes and axes are given, and return its name."""
        return self._initializer(np.asarray(values, np.int64), "")

    def fixed(self, size: int | None, layer: Layer) -> int:
        """Return a size that a node must know, or raise an error because it may change."""
        if size is None:
            raise layer.error("a size that may change on a moved axis has no ONNX form")
        return size

    def _any_shape(self, name: str) -> Any:
        float_type = self.onnx.TensorProto.FLOAT
        return self.onnx.helper.make_tensor_value_info(name, float_type, None)

    def _initializer(self, array: np.ndarray, blob: str) -> str:
        name = self._unique(f"{self._key}.{blob}" if blob else f"{self._name}/constant")
        tensor = self.onnx.numpy_helper.from_array(array.copy(order="C"), name)
        self.initializers.append(tensor)
        return name

    def _top(self, value: str, slot: int) -> str:
        """Give the value of a top the name of its blob."""
        target = self._last.get(slot) or self._unique(f"{self._blob_names[slot]}@{self._name}")
        own = self.nodes[self._first :]
        if value not in self._tops and any(value in node.output for node in own):
            for names in [names for node in own for names in (node.input, node.output)]:
                names[:] = [target if name == value else name for name in names]
        else:
            # The layer passes a blob or a constant on (Dropout, Split, Parameter).
            name = self._unique(f"{self._name}/Identity")
            self.nodes.append(self.onnx.helper.make_node("Identity", [value], [target], name=name))
        self._tops.add(target)
        return target

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate
