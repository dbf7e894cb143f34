"""Which stored arrays go into which parameters: by layer name, as Caffe copies trained layers.

Source: Net::CopyTrainedLayersFrom. What differs: all mismatches are reported at once, layers may
be renamed or ignored, and `partial` leaves what does not fit at its filler, which Caffe users get
by renaming the layer. Works on names and shapes and knows nothing of nets.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sphereface.errors import SphereFaceError, nearest
from sphereface.weights.blob import shape_equals

__all__ = ["LoadReport", "MismatchError", "match_weights"]

Shape = Sequence[int]


@dataclass
class LoadReport:
    """What became of every layer; ``print(report)`` lists it.

    Parameters
    ----------
    loaded : dict of str to list of (ndarray or None)
        Target layer -> arrays in the target's shapes, to be copied into its parameters; None for
        a shared one that the source leaves to its owner.
    skipped : dict of str to str
        Source layer with parameters -> why they are not used.
    left : dict of str to str
        Target layer with parameters -> why it keeps what its fillers made.
    """

    loaded: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        arrays = [a for blobs in self.loaded.values() for a in blobs if a is not None]
        lines = [
            f"loaded {len(self.loaded)} layers, {sum(a.size for a in arrays):,} parameters; "
            f"skipped {len(self.skipped)}; left at filler {len(self.left)}"
        ]
        for name, blobs in self.loaded.items():
            shapes = " ".join(_text(a.shape) if a is not None else "shared" for a in blobs)
            lines.append(f"  loaded   {name}: {shapes}")
        lines += [f"  skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        lines += [f"  left     {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


class MismatchError(SphereFaceError):
    """Layers of the source have other numbers or shapes of blobs than the net's.

    Attributes
    ----------
    layers : tuple of str
        Their names in the net.
    """

    def __init__(self, problems: Mapping[str, str], where: str) -> None:
        self.layers = tuple(problems)
        super().__init__(
            "; ".join(f'layer "{name}": {problem}' for name, problem in problems.items()),
            where=where,
            expected="the net's number of blobs and shapes",
            fix="rename the layer in the net to learn it from scratch, ignore it, or use partial",
        )


def match_weights(
    source: Mapping[str, Sequence[np.ndarray | None]],
    target: Mapping[str, Sequence[Shape]],
    *,
    strict: bool = False,
    partial: bool = False,
    ignore: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
    shared: Collection[tuple[str, int]] = (),
    where: str = "",
) -> LoadReport:
    """Pair stored arrays with a net's parameters.

    Layers are paired by name. Layers of the source that the target lacks are skipped, layers of
    the target that the source lacks are left alone; another number of blobs or another shape is an
    error.

    Parameters
    ----------
    source : mapping of str to sequence of ndarray or None
        Layer -> stored arrays, as `load_weights` returns.
    target : mapping of str to sequence of shape
        Layer -> shapes of its parameters.
    strict : bool
        Every layer with parameters, on either side, must find its partner.
    partial : bool
        Leave a layer whose number of blobs or shapes differ, instead of raising.
    ignore : iterable of str
        Source layers not to load: names or patterns (``"fc6*"``).
    rename : mapping of str to str, optional
        Name in the source -> name in the target.
    shared : collection of (str, int)
        Parameters of the target that another layer owns; the source may lack them.
    where : str
        The file, for error messages.

    Raises
    ------
    SphereFaceError
        As above; or `rename` or `ignore` names nothing in the source.

    Examples
    --------
    >>> import numpy as np
    >>> print(match_weights({"fc": [np.zeros((2, 3))], "old": []}, {"fc": [(2, 3)], "new": [(5,)]}))
    loaded 1 layers, 6 parameters; skipped 0; left at filler 1
      loaded   fc: (2, 3)
      left     new: not in the source
    """
    report = LoadReport()
    problems: dict[str, str] = {}
    ignored: set[str] = set()
    for stored, name, ignore_it in _named(source, ignore, rename or {}, where):
        arrays = source[stored]
        if ignore_it or name not in target:
            if ignore_it:
                ignored.add(name)
            if arrays:
                report.skipped[stored] = "ignored" if ignore_it else "no such layer in the net"
            continue
        problem = _mismatch(name, arrays, target[name], shared)
        if problem and partial:
            report.skipped[stored] = report.left[name] = problem
        elif problem:
            problems[name] = problem
        elif target[name]:
            report.loaded[name] = _shaped(arrays, target[name])
    for name, shapes in target.items():
        if shapes and name not in report.loaded and name not in report.left:
            report.left[name] = "ignored" if name in ignored else "not in the source"
    if problems:
        raise MismatchError(problems, where)
    if strict:
        _check_strict(report, where)
    return report


def _named(
    source: Mapping[str, Sequence[np.ndarray | None]],
    ignore: Iterable[str],
    rename: Mapping[str, str],
    where: str,
) -> list[tuple[str, str, bool]]:
    """Return (name in the source, name in the target, whether ignored) of each source layer."""
    patterns = list(ignore)
    unknown = [f'rename names "{name}"' for name in rename if name not in source]
    unknown += [f'ignore names "{p}"' for p in patterns if not fnmatch.filter(source, p)]
    if unknown:
        raise SphereFaceError(
            f"{unknown[0]}, which is not in the source",
            where=where,
            expected="a layer of the source",
            fix=nearest(unknown[0].split('"')[1], source),
        )
    layers = []
    taken: set[str] = set()
    for stored in source:
        ignored = any(fnmatch.fnmatchcase(stored, pattern) for pattern in patterns)
        name = rename.get(stored, stored)
        if not ignored and name in taken:
            raise SphereFaceError(
                f'two source layers would load into "{name}"',
                where=where,
                expected="one",
                fix="ignore one of them",
            )
        if not ignored:
            taken.add(name)
        layers.append((stored, name, ignored))
    return layers


def _mismatch(
    name: str,
    arrays: Sequence[np.ndarray | None],
    shapes: Sequence[Shape],
    shared: Collection[tuple[str, int]],
) -> str:
    """Return why `arrays` do not fit a layer of `shapes`, or an empty string."""
    if len(arrays) > len(shapes):
        return f"the source has {len(arrays)} blobs, the net has {len(shapes)}"
    for index, shape in enumerate(shapes):
        array = arrays[index] if index < len(arrays) else None
        if array is None:
            if (name, index) in shared:
                continue
            have = sum(a is not None for a in arrays)
            return f"the source has {have} blobs, the net has {len(shapes)}"
        if not shape_equals(array.shape, shape):
            return (
                f"blob {index} has shape {_text(array.shape)} in the source "
                f"and {_text(shape)} in the net"
            )
    return ""


def _shaped(
    arrays: Sequence[np.ndarray | None], shapes: Sequence[Shape]
) -> list[np.ndarray | None]:
    padded = [*arrays, *[None] * (len(shapes) - len(arrays))]
    return [
        None if array is None else array.reshape(tuple(shape))
        for array, shape in zip(padded, shapes, strict=True)
    ]


def _check_strict(report: LoadReport, where: str) -> None:
    lost = [f'source layer "{n}": {why}' for n, why in report.skipped.items() if why != "ignored"]
    left = [f'layer "{n}" of the net: {why}' for n, why in report.left.items() if why != "ignored"]
    if lost or left:
        raise SphereFaceError(
            "; ".join(lost + left),
            where=where,
            expected="the same layers on both sides (strict)",
            fix="ignore or rename layers, or load without strict",
        )


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
