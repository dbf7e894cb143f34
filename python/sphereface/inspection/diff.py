"""Differences of two nets, field by field, and of two models, blob by blob."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sphereface.caffe.load import load_file
from sphereface.caffe.weight_files import read_weights
from sphereface.inspection.fields import written_fields
from sphereface.proto.net_file import NetFile
from sphereface.weights import shape_equals

__all__ = ["BlobDiff", "FieldChange", "NetDiff", "WeightsDiff", "diff_nets", "diff_weights"]


@dataclass(frozen=True)
class FieldChange:
    """One field of a layer that differs, or of the net itself (layer is ""); None is absent."""

    layer: str
    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class NetDiff:
    """What turns one net into another; ``print(diff)`` lists it.

    Attributes
    ----------
    removed, added : tuple of str
        Layers of one net only, as ``name (Type)``.
    moved : tuple of str
        Layers of both that stand in another order.
    changes : tuple of FieldChange
        Fields that differ in layers of both, and in the nets themselves.
    """

    removed: tuple[str, ...]
    added: tuple[str, ...]
    moved: tuple[str, ...]
    changes: tuple[FieldChange, ...]

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not (self.removed or self.added or self.moved or self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"kind": "net", "equal": self.equal, **asdict(self)}

    def __str__(self) -> str:
        if self.equal:
            return "the nets are equal"
        lines = [f"- layer {name}" for name in self.removed]
        lines += [f"+ layer {name}" for name in self.added]
        lines += [f"~ layer {name}: in another place" for name in self.moved]
        for change in self.changes:
            where = f"layer {change.layer}: " if change.layer else ""
            lines.append(f"~ {where}{change.field}: {_told(change.old)} -> {_told(change.new)}")
        return "\n".join(lines)


def diff_nets(
    old: str | os.PathLike[str], new: str | os.PathLike[str], phase: str | None = None
) -> NetDiff:
    """Compare two nets, upgraded to today's format.

    Layers are paired by name, those of one name (TRAIN and TEST data layers) by their order. A
    field that is written with its default equals one that is absent.

    Parameters
    ----------
    old, new : path or str
        Prototxts, their texts, or files of weights that hold their nets.
    phase : {"TRAIN", "TEST"}, optional
        Compare the layers of a phase only.

    Raises
    ------
    SphereFaceError
        A net cannot be read.
    """
    files = [load_file(file).checked() for file in (old, new)]
    nets = [file.kept(phase) if phase else file for file in files]
    before, after = (_keyed_layers(net) for net in nets)
    common = [key for key in before if key in after]
    places = {key: place for place, key in enumerate(key for key in after if key in before)}
    changes = list(_changes("", *(written_fields(_without_layers(net)) for net in nets)))
    for key in common:
        fields = written_fields(before[key]), written_fields(after[key])
        changes += _changes(before[key].name, *fields)
    return NetDiff(
        removed=tuple(_title(before[key]) for key in before if key not in after),
        added=tuple(_title(after[key]) for key in after if key not in before),
        moved=tuple(before[common[i]].name for i in _out_of_order([places[k] for k in common])),
        changes=tuple(changes),
    )


def _keyed_layers(file: NetFile) -> dict[tuple[str, int], Any]:
    layers: dict[tuple[str, int], Any] = {}
    for layer in file.net.layer:
        count = 0
        while (layer.name, count) in layers:
            count += 1
        layers[layer.name, count] = layer
    return layers


def _without_layers(file: NetFile) -> Any:
    net = type(file.net)()
    net.CopyFrom(file.net)
    net.ClearField("layer")
    net.ClearField("state")  # it tells the phase that was asked for
    return net


def _title(layer: Any) -> str:
    return f"{layer.name} ({layer.type})"


def _changes(layer: str, old: dict[str, str], new: dict[str, str]) -> Iterator[FieldChange]:
    for field in [*old, *(field for field in new if field not in old)]:
        if old.get(field) != new.get(field):
            yield FieldChange(layer, field, old.get(field), new.get(field))


def _out_of_order(places: Sequence[int]) -> list[int]:
    """Return the fewest indices without which `places` only grow."""
    lengths: list[int] = []
    previous: list[int] = []
    for index, place in enumerate(places):
        best = max(
            (i for i in range(index) if places[i] < place), key=lengths.__getitem__, default=-1
        )
        previous.append(best)
        lengths.append(1 + (lengths[best] if best >= 0 else 0))
    kept = set()
    index = max(range(len(places)), key=lengths.__getitem__, default=-1)
    while index >= 0:
        kept.add(index)
        index = previous[index]
    return [index for index in range(len(places)) if index not in kept]


def _told(value: str | None) -> str:
    return "absent" if value is None else value


@dataclass(frozen=True)
class BlobDiff:
    """One parameter of both models.

    Attributes
    ----------
    layer, index : str, int
        Which blob.
    old_shape, new_shape : tuple of int
        Stored shapes; a legacy (1, 1, 1, N) fits (N,).
    max_abs : float or None
        Greatest absolute difference; None if the shapes do not fit. Infinite where only one of
        two values is a number.
    relative : float or None
        Norm of the difference over the norm of the old values.
    equal : bool
        Whether the difference is within the tolerance.
    """

    layer: str
    index: int
    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    max_abs: float | None
    relative: float | None
    equal: bool


@dataclass(frozen=True)
class WeightsDiff:
    """Two models compared; ``print(diff)`` is a table.

    Attributes
    ----------
    removed, added : tuple of str
        Layers (or blobs, as ``name[index]``) with parameters in one model only.
    blobs : tuple of BlobDiff
        Blobs of both, in the order of the old model.
    tolerance : float
        Greatest absolute difference that counts as equal.
    """

    removed: tuple[str, ...]
    added: tuple[str, ...]
    blobs: tuple[BlobDiff, ...]
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether both have the same blobs with equal values."""
        return not (self.removed or self.added) and all(blob.equal for blob in self.blobs)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; an infinite difference as a string."""
        result = {"kind": "weights", "equal": self.equal, **asdict(self)}
        for blob in result["blobs"]:
            for name in ("max_abs", "relative"):
                if blob[name] is not None and not math.isfinite(blob[name]):
                    blob[name] = str(blob[name])
        return result

    def __str__(self) -> str:
        lines = [f"- {name}" for name in self.removed] + [f"+ {name}" for name in self.added]
        width = max((len(blob.layer) + len(str(blob.index)) + 2 for blob in self.blobs), default=0)
        for blob in self.blobs:
            name = f"{blob.layer}[{blob.index}]".ljust(width)
            if blob.max_abs is None:
                text = f"shape {blob.old_shape} -> {blob.new_shape}"
            else:
                text = f"max {blob.max_abs:<10.3g} relative {blob.relative:<10.3g}"
                text += f" {blob.new_shape}"
            lines.append(f"{'=' if blob.equal else '~'} {name}  {text}")
        count = sum(not blob.equal for blob in self.blobs)
        verdict = "the models are equal" if self.equal else f"{count} blobs differ"
        if not self.equal and (self.removed or self.added):
            verdict += f", {len(self.removed)} are missing, {len(self.added)} are extra"
        return "\n".join([*lines, f"{len(self.blobs)} common blobs: {verdict}"])


def diff_weights(
    old: str | os.PathLike[str], new: str | os.PathLike[str], tolerance: float = 0.0
) -> WeightsDiff:
    """Compare two files of weights, each of any format that `Net.copy_from` reads.

    Parameters
    ----------
    old, new : path-like
        Files.
    tolerance : float
        Greatest absolute difference of two values that counts as equal.

    Raises
    ------
    SphereFaceError
        A file is damaged or holds no weights.
    """
    before, after = _blobs(old), _blobs(new)
    return WeightsDiff(
        removed=tuple(f"{name}[{index}]" for name, index in before if (name, index) not in after),
        added=tuple(f"{name}[{index}]" for name, index in after if (name, index) not in before),
        blobs=tuple(
            _blob_diff(key, array, after[key], tolerance)
            for key, array in before.items()
            if key in after
        ),
        tolerance=tolerance,
    )


def _blobs(path: str | os.PathLike[str]) -> dict[tuple[str, int], np.ndarray]:
    return {
        (name, index): array
        for name, arrays in read_weights(path).items()
        for index, array in enumerate(arrays)
        if array is not None
    }


def _blob_diff(
    key: tuple[str, int], old: np.ndarray, new: np.ndarray, tolerance: float
) -> BlobDiff:
    shapes = old.shape, new.shape
    if not (shape_equals(*shapes) or shape_equals(*shapes[::-1])):
        return BlobDiff(*key, *shapes, None, None, equal=False)
    first, second = old.ravel().astype(np.float64), new.ravel().astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(first - second))
    difference[np.isnan(difference)] = np.inf
    greatest = float(difference.max(initial=0.0))
    norm = float(np.linalg.norm(first[np.isfinite(first)]))
    if greatest == 0:
        relative = 0.0
    else:
        relative = float(np.linalg.norm(difference)) / norm if norm else math.inf
    return BlobDiff(*key, *shapes, greatest, relative, equal=greatest <= tolerance)
