"""The text of a ported net under construction: submodules, statements, definitions and names.

What the files of this folder that are named as layers write into. Their functions take the writer,
the layer and the variables of its bottoms, and return the expression of its tops.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Set
from typing import TypeAlias, TypeVar

from torch import Tensor, nn

from sphereface.caffe import Layer, Net
from sphereface.caffe.registry import LayerTable
from sphereface.convert.port.blobs import Blobs
from sphereface.convert.port.call import call_text
from sphereface.convert.port.definitions import Definitions
from sphereface.convert.port.text import identifier, literal, number, quoted, wrapped

__all__ = ["SOURCE_LAYERS", "SourceEmitter", "SourceWriter", "source_layer"]

SourceEmitter: TypeAlias = Callable[..., str]
SOURCE_LAYERS: LayerTable[SourceEmitter] = LayerTable()
"""Layer type to the function that writes it otherwise than as a call of the layer's function."""

_RESERVED = {"self", "torch", "F", "nn", "Tensor"}

E = TypeVar("E", bound=SourceEmitter)


def source_layer(*types: str) -> Callable[[E], E]:
    """Register ``function(writer, layer, *bottoms)``, which writes the layers of these types.

    Examples
    --------
    >>> @source_layer("Gain")
    ... def gain(writer, layer, x):
    ...     return f"{number(layer.gain)} * {x}"
    """

    def register(function: E) -> E:
        for name in types:
            SOURCE_LAYERS.add(name, function)
        return function

    return register


class SourceWriter:
    """Lines of ``__init__`` and ``forward``, and the definitions that they use.

    Parameters
    ----------
    net : Net
        The net to write.
    taken : set of str
        Names that no variable may have.

    Attributes
    ----------
    modules, statements : list of str
        Lines of ``__init__`` and ``forward``.
    variables : list of str
        By slot of the net's graph.
    definitions : Definitions
        What stands before the class.
    """

    def __init__(self, net: Net, taken: Set[str] = frozenset()) -> None:
        self.modules: list[str] = []
        self.statements: list[str] = []
        self.definitions = Definitions()
        self._defined: set[Layer] = set()
        self._keys = dict(zip(net.layers, net.keys, strict=True))
        self._nodes = dict(zip(net.layers, net.graph.nodes, strict=True))
        self._shapes = net.infer_shapes({})
        names: dict[str, str] = {}
        for blob in net.graph.blob_names:
            if blob not in names:
                names[blob] = identifier(blob, {*names.values(), *taken, *_RESERVED})
        self.variables = [names[blob] for blob in net.graph.blob_names]

    def axes(self, layer: Layer, bottom: int = 0) -> int:
        """Return the number of axes of a bottom of `layer`."""
        return len(self._shapes[self._nodes[layer].bottoms[bottom]])

    def call(self, layer: Layer, *bottoms: str) -> str:
        """Return a call of the layer's function, or its expression if it is no more than one.

        Raises
        ------
        SphereFaceError
            The layer has no function of its own, or one that cannot be printed.
        """
        if layer.function is None:
            raise layer.error(
                f"layer type {layer.type} has no PyTorch source",
                fix="port a deploy prototxt, without data and losses; a layer of your own needs a"
                " `function`, or sphereface.convert.port.source_layer",
            )
        try:
            keywords = {name: self._keyword(layer, name) for name in layer.function_keywords}
            return call_text(layer.function, bottoms, keywords, self.definitions)
        except (TypeError, ValueError) as error:
            raise layer.error(f"its function cannot be printed: {error}") from None

    def _keyword(self, layer: Layer, name: str) -> str:
        if name == "training":
            return "self.training"
        if name in layer.blob_names:
            return f"{self.blobs(layer)}.{name}"
        return literal(getattr(layer, name))

    def blobs(self, layer: Layer) -> str:
        """Define a submodule with the layer's blobs, once, and return it."""
        call = self.submodule(layer)
        if layer not in self._defined:
            made = [
                f"{name}={_made(blob, layer.start_value(name))}"
                for name, blob in zip(layer.blob_names, layer.blobs, strict=True)
            ]
            self.definitions.add("Blobs", Blobs, "sphereface")
            self.module(layer, "Blobs", ", ".join(made))
        return call

    def module(self, layer: Layer, made_by: str, arguments: str) -> str:
        """Define the layer's submodule, of a class of torch.nn, and return it."""
        made, call = f"{made_by}({arguments})", self.submodule(layer)
        self._defined.add(layer)
        if call.endswith(")"):
            self.modules.append(
                wrapped("", f"self.add_module({quoted(self._keys[layer])}, {made})")
            )
        else:
            self.modules.append(wrapped(f"{call} = ", made))
        return call

    def submodule(self, layer: Layer) -> str:
        """Return the expression of the layer's submodule, whatever characters its key has."""
        key = self._keys[layer]
        if key.isidentifier() and not keyword.iskeyword(key):
            return f"self.{key}"
        return f"self.get_submodule({quoted(key)})"

    def assign(self, tops: Iterable[str], expression: str) -> None:
        """Write ``top = expression``, or ``a, b = expression``."""
        self.statements.append(wrapped(f"{', '.join(tops)} = ", expression))


def _made(blob: Tensor, start: float) -> str:
    """Return the text that makes a blob before its weights are loaded."""
    shape = ", ".join(map(str, blob.shape)) or "()"
    made = f"torch.zeros({shape})"
    if start:
        made = f"torch.full({tuple(blob.shape)}, {number(start)})"
    if start == 1:
        made = f"torch.ones({shape})"
    return f"nn.Parameter({made})" if isinstance(blob, nn.Parameter) else made
