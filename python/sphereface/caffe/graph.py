"""NetParameter to NetGraph: which layer reads which value, before any tensor exists.

Source: Caffe's Net::Init, AppendTop and AppendBottom (net.cpp). What differs: every write of a blob
gets a slot of its own (in-place tops make a new version of the name), so the Split layers that
Caffe inserts are not needed, and errors name file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sphereface.errors import SphereFaceError, nearest, raise_problems
from sphereface.proto import schema

__all__ = ["Arity", "LayerClass", "NetGraph", "Node", "at_least", "build_graph", "exactly"]


class Arity(NamedTuple):
    """How many bottoms or tops a layer type takes; ``most=None`` means any number."""

    least: int
    most: int | None

    def __contains__(self, count: object) -> bool:
        return isinstance(count, int) and (
            self.least <= count and (self.most is None or count <= self.most)
        )

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least}"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


def exactly(count: int) -> Arity:
    """Return the arity of a layer that takes `count` blobs, no more and no fewer."""
    return Arity(count, count)


def at_least(count: int) -> Arity:
    """Return the arity of a layer that takes `count` blobs or more."""
    return Arity(count, None)


class LayerClass(Protocol):
    """What the graph needs to know of a layer type."""

    bottoms: Arity
    tops: Arity
    equal_counts: bool
    auto_tops: bool
    is_input: bool


@dataclass(frozen=True)
class Node:
    """One layer: its message, its class, and the slots it reads and writes.

    ``detach[i]`` is true where the file says ``propagate_down: false`` for bottom i.
    """

    index: int
    param: Any
    layer_class: Any
    where: str
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]
    detach: tuple[bool, ...]

    @property
    def name(self) -> str:
        """The layer's name in the file."""
        return str(self.param.name)

    @property
    def type(self) -> str:
        """The layer's type in the file."""
        return str(self.param.type)

    def __getstate__(self) -> dict[str, Any]:
        # Messages of a private descriptor pool cannot be pickled by class name.
        return {**self.__dict__, "param": schema.encode(self.param)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, param=schema.decode("LayerParameter", state["param"]))


@dataclass
class NetGraph:
    """Layers in file order over numbered slots; a slot is one version of one blob.

    Attributes
    ----------
    blob_names : list of str
        Slot to blob name; the automatic top of a loss has the name "".
    inputs : dict
        Name to slot of the blobs that the caller (or a data reader) provides, in file order.
    outputs : dict
        Name to slot of the blobs that no layer consumes, in Caffe's order (sorted by name).
    blobs : dict
        Name to slot of the last version of each blob.
    """

    name: str
    force_backward: bool
    nodes: list[Node] = field(default_factory=list)
    blob_names: list[str] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)

    def frees(self, keep: Collection[int]) -> list[tuple[int, ...]]:
        """Return, for each node, the slots outside `keep` that nothing reads after it."""
        last = {slot: node.index for node in self.nodes for slot in node.tops + node.bottoms}
        # Reads come after the write in file order, so the highest index seen is the last use.
        freed: list[list[int]] = [[] for _ in self.nodes]
        for slot, index in last.items():
            if slot not in keep:
                freed[index].append(slot)
        return [tuple(slots) for slots in freed]


def build_graph(
    net: Any,
    layer_class: Callable[[str, str], LayerClass],
    where: Callable[[int], str] | None = None,
    *,
    source: str = "",
    problems: Iterable[SphereFaceError] = (),
    why_missing: Callable[[str], str] | None = None,
) -> NetGraph:
    """Connect the layers of a net whose upgrade and phase rules have been applied.

    Parameters
    ----------
    net : NetParameter
        Current format; only the layers that the net state keeps.
    layer_class : callable
        (type, where) to the class registered for it; raises for an unknown type.
    where : callable, optional
        Index of a layer to how errors name it: ``net.prototxt:12: layer "fc5" (InnerProduct)``.
    source : str, optional
        Name of the file, where several problems are told.
    problems : iterable of SphereFaceError
        What is wrong with the net already, to be raised with what is found here.
    why_missing : callable, optional
        Name of a blob that no earlier layer makes to why that is so, or ``""``.

    Returns
    -------
    NetGraph

    Raises
    ------
    SphereFaceError
        Unknown layer type, unknown bottom, top with two sources, wrong number of blobs: all of
        them, unknown types first.
    """
    graph = NetGraph(net.name, net.force_backward)
    consumed: set[int] = set()
    unknown, found = [], list(problems)
    for index, param in enumerate(net.layer):
        place = where(index) if where else f'layer "{param.name}" ({param.type})'
        cls = None
        try:
            if param.type:
                cls = layer_class(param.type, place)
            elif not found:  # of `layers { }` the text has said which type is none
                raise SphereFaceError("no type", where=place, expected='type: "Convolution" or so')
        except SphereFaceError as error:
            unknown.append(error)
        try:
            bottoms = _connect_bottoms(graph, param, place, why_missing)
            consumed.update(bottoms)
            if cls is not None:
                graph.nodes.append(_node(graph, index, param, cls, place, bottoms))
        except SphereFaceError as error:
            found.append(error)
        # What a layer with a problem makes is not missing.
        for name in param.top:
            if name not in graph.blobs:
                graph.blobs[name] = len(graph.blob_names)
                graph.blob_names.append(name)
    raise_problems([*unknown, *found], source)
    graph.outputs = {
        name: slot for name, slot in sorted(graph.blobs.items()) if slot not in consumed
    }
    return graph


def _node(
    graph: NetGraph, index: int, param: Any, cls: LayerClass, place: str, bottoms: tuple[int, ...]
) -> Node:
    _check_counts(cls, param, place)
    tops = _add_tops(graph, param, cls, place)
    if cls.is_input:
        graph.inputs.update(zip(param.top, tops, strict=True))
    detach = _detached(param, graph.force_backward, place)
    return Node(index, param, cls, place, bottoms, tops, detach)


def _connect_bottoms(
    graph: NetGraph, param: Any, place: str, why_missing: Callable[[str], str] | None
) -> tuple[int, ...]:
    raise_problems(
        SphereFaceError(
            f'unknown bottom blob "{name}" at index {position}',
            where=place,
            expected="the name of a top of an earlier layer",
            fix=(why_missing(name) if why_missing else "") or nearest(name, graph.blobs),
        )
        for position, name in enumerate(param.bottom)
        if name not in graph.blobs
    )
    return tuple(graph.blobs[name] for name in param.bottom)


def _check_counts(cls: LayerClass, param: Any, place: str) -> None:
    tops = Arity(0, cls.tops.most) if cls.auto_tops else cls.tops
    for word, names, arity in (("bottom", param.bottom, cls.bottoms), ("top", param.top, tops)):
        if len(names) not in arity:
            raise SphereFaceError(
                f"{len(names)} {word} blobs ({_listed(names)})",
                where=place,
                expected=f"{arity} {word} blobs",
            )
    if cls.equal_counts and len(param.bottom) != len(param.top):
        raise SphereFaceError(
            f"{len(param.bottom)} bottom and {len(param.top)} top blobs",
            where=place,
            expected="one top for each bottom",
        )


def _add_tops(graph: NetGraph, param: Any, cls: LayerClass, place: str) -> tuple[int, ...]:
    slots = []
    for position, name in enumerate(param.top):
        in_place = position < len(param.bottom) and param.bottom[position] == name
        if name in graph.blobs and not in_place:
            raise SphereFaceError(
                f'top blob "{name}" is produced by multiple sources',
                where=place,
                expected="a new name, or the name of the bottom at the same index (in place)",
            )
        graph.blobs[name] = len(graph.blob_names)
        slots.append(len(graph.blob_names))
        graph.blob_names.append(name)
    while cls.auto_tops and len(slots) < cls.tops.least:
        slots.append(len(graph.blob_names))
        graph.blob_names.append("")
    return tuple(slots)


def _detached(param: Any, force_backward: bool, place: str) -> tuple[bool, ...]:
    given = list(param.propagate_down)
    if given and len(given) != len(param.bottom):
        raise SphereFaceError(
            f"{len(given)} propagate_down values for {len(param.bottom)} bottom blobs",
            where=place,
            expected="none, or one for each bottom",
        )
    # force_backward overrides the layers' own wishes in Caffe too.
    return tuple(not wish and not force_backward for wish in given) or (False,) * len(param.bottom)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"
