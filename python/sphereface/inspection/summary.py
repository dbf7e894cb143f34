"""A net as a table: shapes, parameters, multiply-accumulates and memory of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sphereface.caffe import Net
from sphereface.inspection.macs import layer_macs

__all__ = ["LayerRow", "Summary", "summarize"]

Shape = tuple[int, ...]
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes
    ----------
    name, type : str
        As in the file.
    bottoms, tops : tuple of str
        Blob names.
    shapes : tuple of shape
        Shape of each top.
    params : int
        Values in its parameter blobs, statistics of BatchNorm included; a blob shared by name
        counts at the layer that owns it.
    frozen : int
        Those of them with lr_mult 0.
    macs : int
        Multiply-accumulates of one forward pass; see `layer_macs`.
    activation_bytes : int
        Size of its tops in float32, views such as Flatten's included.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]
    params: int
    frozen: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """All layers of a net, and totals; ``print(summary)`` is the table.

    Attributes
    ----------
    name, phase : str
        The net's.
    batch : int
        Size of the first axis of the first input (1 for a net without inputs).
    layers : tuple of LayerRow
        In file order.
    params, frozen, macs, activation_bytes : int
        Totals.
    peak_bytes : int
        Most activations alive at one time in a forward pass without gradients, in float32: a blob
        is freed after its last reader.
    """

    name: str
    phase: str
    batch: int
    layers: tuple[LayerRow, ...]
    params: int
    frozen: int
    macs: int
    activation_bytes: int
    peak_bytes: int

    @property
    def macs_per_image(self) -> int:
        """Multiply-accumulates for one image of the batch."""
        return self.macs // max(self.batch, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**asdict(self), "macs_per_image": self.macs_per_image}

    def __str__(self) -> str:
        header = ("layer", "type", "bottoms", "output", "params", "frozen", "MACs", "activation")
        rows = [header] + [
            (
                row.name,
                row.type,
                ", ".join(row.bottoms),
                ", ".join(map(shape_text, row.shapes)),
                _count(row.params),
                _count(row.frozen),
                _count(row.macs),
                _size(row.activation_bytes),
            )
            for row in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_line(row, widths) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, "", *self._totals()])

    def _totals(self) -> list[str]:
        types = {row.type for row in self.layers}
        count = f"{len(self.layers)} layers of {len(types)} types"
        per_image = f" ({self.macs_per_image:,} per image)" if self.batch > 1 else ""
        return [
            f"{self.name or 'unnamed net'}, phase {self.phase}, batch {self.batch}: {count}",
            f"parameters   {self.params:,} ({_size(_FLOAT_BYTES * self.params)}), "
            f"of which {self.frozen:,} frozen",
            f"MACs         {self.macs:,}{per_image}",
            f"activations  {_size(self.activation_bytes)} in all, "
            f"{_size(self.peak_bytes)} at the peak of a forward pass",
        ]


def summarize(net: Net, batch: int | None = None) -> Summary:
    """Return the table of a net; nothing is run, and weights do not matter.

    Parameters
    ----------
    net : Net
        The net, built for the input sizes that are of interest.
    batch : int, optional
        Size of the first axis of every input, instead of the net's.

    Raises
    ------
    SphereFaceError
        A layer cannot take that batch.

    Examples
    --------
    >>> from sphereface.caffe import load
    >>> from sphereface.resources import prototxt_path
    >>> summarize(load(prototxt_path("sphereface_20_deploy"))).params
    22670656
    """
    built = {name: net.blob_shapes[name] for name in net.inputs}
    given = {n: (batch, *shape[1:]) for n, shape in built.items() if batch is not None and shape}
    shapes = net.infer_shapes(given)
    params, frozen = _owned_parameters(net)
    rows = []
    for index, (node, layer) in enumerate(zip(net.graph.nodes, net.layers, strict=True)):
        tops = tuple(shapes[slot] for slot in node.tops)
        bottoms = [shapes[slot] for slot in node.bottoms]
        rows.append(
            LayerRow(
                name=node.name,
                type=node.type,
                bottoms=tuple(node.param.bottom),
                tops=tuple(node.param.top),
                shapes=tops,
                params=params[index],
                frozen=frozen[index],
                macs=layer_macs(layer, bottoms, tops),
                activation_bytes=sum(map(_bytes, tops)),
            )
        )
    first = next((shapes[slot] for slot in net.graph.inputs.values()), ())
    return Summary(
        name=net.name,
        phase=net.phase,
        batch=first[0] if first else 1,
        layers=tuple(rows),
        params=sum(params),
        frozen=sum(frozen),
        macs=sum(row.macs for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
        peak_bytes=_peak(net, shapes),
    )


def shape_text(shape: Sequence[int]) -> str:
    """Return ``1x3x112x96``, or ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


def _owned_parameters(net: Net) -> tuple[list[int], list[int]]:
    """Return parameters and frozen ones of each layer, shared blobs at their owner."""
    position = {id(layer): index for index, layer in enumerate(net.layers)}
    params, frozen = [0] * len(position), [0] * len(position)
    for blob in net.learnable_blobs():
        index, size = position[id(blob.layer)], blob.tensor.numel()
        params[index] += size
        frozen[index] += size if blob.lr_mult == 0 else 0
    return params, frozen


def _peak(net: Net, shapes: Sequence[Shape]) -> int:
    graph = net.graph
    frees = graph.frees(set(graph.outputs.values()))
    alive, peak = 0, 0
    for node, freed in zip(graph.nodes, frees, strict=True):
        alive += sum(_bytes(shapes[slot]) for slot in node.tops)
        peak = max(peak, alive)
        alive -= sum(_bytes(shapes[slot]) for slot in freed)
    return peak


def _bytes(shape: Shape) -> int:
    size = _FLOAT_BYTES
    for axis in shape:
        size *= axis
    return size


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    numbers = 4  # the last columns, set flush right
    cells = [
        cell.ljust(width) if index < len(row) - numbers else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _count(value: int) -> str:
    return f"{value:,}" if value else "-"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B" if count else "-"
    value = count / 1024
    for unit in ("KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
