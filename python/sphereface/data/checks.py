"""Labels looked at before the first step, because a wrong one trains for hours and learns nothing.

What differs from Caffe: it looks at no label; one outside the classes reads beyond the
probabilities, or stops the run when its image comes up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from sphereface.data.open_source import Sources
from sphereface.data.source import Source
from sphereface.errors import SphereFaceError

__all__ = ["LabelReport", "check_labels", "check_net_labels", "class_count"]

_SHOWN = 5
_CLASSIFIERS = (
    "Accuracy", "FocalLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss",
    "SoftmaxWithLoss",
)  # fmt: skip


@dataclass(frozen=True)
class LabelReport:
    """What the labels are.

    Attributes
    ----------
    samples : int
        Labels looked at, those ignored included.
    classes : int
        Number of classes of the net.
    complete : bool
        Whether all labels were looked at.
    empty : tuple of int
        Classes without a sample; none if not all labels were looked at.
    """

    samples: int
    classes: int
    complete: bool
    empty: tuple[int, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, a sentence each."""
        if not self.empty:
            return ()
        shown = ", ".join(map(str, self.empty[:_SHOWN]))
        more = ", ..." if len(self.empty) > _SHOWN else ""
        plural = "es" if self.classes != 1 else ""
        text = f"{len(self.empty)} of {self.classes} class{plural} without an image: {shown}{more}"
        if self.empty == (0,):
            text += "; are the labels 1-based? Caffe's begin with 0"
        return (text,)


def check_labels(
    labels: Iterable[tuple[int, str]],
    num_output: int,
    *,
    where: str = "",
    ignore_label: int | None = None,
    limit: int | None = None,
) -> LabelReport:
    """Compare labels with the number of classes.

    Parameters
    ----------
    labels : iterable of (int, str)
        Each label and its place: `Source.labels`.
    num_output : int
        Number of classes; `class_count` finds it in a net.
    where : str
        Place for errors that no single label has.
    ignore_label : int, optional
        A label that the loss leaves out.
    limit : int, optional
        Look at no more labels than this (an LMDB must be read for its labels).

    Returns
    -------
    LabelReport

    Raises
    ------
    SphereFaceError
        There are no labels, or some lie outside 0 .. num_output - 1; the first is named.
    """
    counts = np.zeros(num_output, np.int64)
    outside: list[tuple[int, str]] = []
    samples, wrong, lowest, highest = 0, 0, None, None
    rest = iter(labels)
    for label, place in islice(rest, limit):
        samples += 1
        if label == ignore_label:
            continue
        lowest = label if lowest is None else min(lowest, label)
        highest = label if highest is None else max(highest, label)
        if 0 <= label < num_output:
            counts[label] += 1
        else:
            wrong += 1
            outside = outside or [(label, place)]
    if not samples:
        raise SphereFaceError("no labels", where=where, expected="at least one sample")
    if outside:
        label, place = outside[0]
        if lowest == 1 and highest == num_output:
            fix = "the labels are 1-based: subtract 1 from each"
        else:
            fix = f"labels go from {lowest} to {highest}: correct the list or num_output"
        count = f" ({wrong} such labels)" if wrong > 1 else ""
        raise SphereFaceError(
            f"label {label}{count}", where=place, expected=f"0 .. {num_output - 1}", fix=fix
        )
    complete = limit is None or next(rest, None) is None
    empty = tuple(np.flatnonzero(counts == 0).tolist()) if complete else ()
    return LabelReport(samples, num_output, complete, empty)


def class_count(net: Any, label: str) -> tuple[int, int | None] | None:
    """Return how many classes a net has for the labels of a blob, and the label that it ignores.

    Parameters
    ----------
    net : NetParameter
        The layers of one phase.
    label : str
        Name of the blob with the labels.

    Returns
    -------
    (int, int or None), or None
        None if no layer takes the labels for classes.

    Notes
    -----
    It is the ``num_output`` of a layer that reads the labels (MarginInnerProduct), or that of the
    layer before a classification loss (InnerProduct before SoftmaxWithLoss).
    """
    outputs: dict[str, int] = {}
    for layer in net.layer:
        own = _num_output(layer)
        before = outputs.get(layer.bottom[0]) if layer.bottom else None
        if label in layer.bottom:
            classes = own or (before if layer.type in _CLASSIFIERS else None)
            if classes:
                return classes, _ignored(net, label)
        # A layer without an output size of its own hands on that of its first bottom.
        size = own or before
        if size:
            outputs.update(dict.fromkeys(layer.top, size))
    return None


def check_net_labels(net: Any, source: Source | Sources, *, limit: int = 100_000) -> list[str]:
    """Compare the labels of a net's data layers with its classes.

    Parameters
    ----------
    net : NetParameter
        The layers of one phase.
    source : Source or Sources
        What `open_source` or `open_sources` returned for it.
    limit : int
        Look at no more labels than this where they are not in memory (an LMDB's).

    Returns
    -------
    list of str
        Warnings: classes without an image.

    Raises
    ------
    SphereFaceError
        A label lies outside the classes, or there are no labels.
    """
    warnings: list[str] = []
    for member in source.members.values() if isinstance(source, Sources) else [source]:
        labels = member.labels()
        known = class_count(net, member.label_top) if member.label_top else None
        if labels is None or known is None:
            continue
        report = check_labels(
            labels,
            known[0],
            where=member.where,
            ignore_label=known[1],
            limit=None if member.labels_in_memory else limit,
        )
        warnings += [f"{member.where}: {warning}" for warning in report.warnings]
    return warnings


def _ignored(net: Any, label: str) -> int | None:
    for layer in net.layer:
        if label in layer.bottom and layer.loss_param.HasField("ignore_label"):
            return int(layer.loss_param.ignore_label)
    return None


def _num_output(layer: Any) -> int | None:
    for field, value in layer.ListFields():
        if field.name.endswith("_param") and "num_output" in getattr(
            field.message_type, "fields_by_name", {}
        ):
            return int(value.num_output) or None
    return None
