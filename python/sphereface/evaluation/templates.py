"""IJB's templates: several images of a person as one feature.

A line of the list is ``image template medium`` (``name tid mid``). Source: IJB-B and IJB-C. The
images of one medium (a video) are averaged first, then the media, each with the same say; the mean
is scaled to unit length.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import unit_rows
from sphereface.evaluation.features import Features
from sphereface.files import read_text

__all__ = ["TemplateList", "aggregate", "read_identities", "read_templates", "template_features"]

_LIMIT = 1 << 30


@dataclass(frozen=True)
class TemplateList:
    """The images of templates.

    Attributes
    ----------
    image : list of str
    template, medium : list of str
        Of each image.
    """

    image: list[str]
    template: list[str]
    medium: list[str]


def read_templates(path: str | os.PathLike[str]) -> TemplateList:
    """Read lines of ``image template medium``.

    Raises
    ------
    SphereFaceError
        A line has other fields.
    """
    rows = []
    for number, line in enumerate(read_text(path, limit=_LIMIT, what="templates").split("\n"), 1):
        if not line.strip():
            continue
        fields = line.rsplit(None, 2)
        if len(fields) != 3:
            raise SphereFaceError(
                f"{line!r}", where=f"{os.fspath(path)}:{number}", expected="image template medium"
            )
        rows.append(fields)
    if not rows:
        raise SphereFaceError("no templates", where=os.fspath(path))
    image, template, medium = (list(column) for column in zip(*rows, strict=True))
    return TemplateList(image, template, medium)


def read_identities(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Read who the items of a gallery or the probes are.

    Lines are ``item person``, split at the last blank, or a CSV whose header names TEMPLATE_ID and
    SUBJECT_ID, as IJB's gallery and probe files; a template's lines after its first are skipped.

    Returns
    -------
    items, persons : list of str
    """
    where = os.fspath(path)
    lines = [
        line for line in read_text(path, limit=_LIMIT, what="list").split("\n") if line.strip()
    ]
    header = [name.strip().lower() for name in lines[0].split(",")] if lines else []
    if {"template_id", "subject_id"} <= set(header):
        item, person = header.index("template_id"), header.index("subject_id")
        rows = [
            (row[item], row[person])
            for row in csv.reader(lines[1:])
            if len(row) > max(item, person)
        ]
    else:
        split = [line.rsplit(None, 1) for line in lines]
        wrong = next((i for i, fields in enumerate(split) if len(fields) != 2), None)
        if wrong is not None:
            raise SphereFaceError(f"{lines[wrong]!r}", where=where, expected="item person")
        rows = [(first.strip(), second) for first, second in split]
    if not rows:
        raise SphereFaceError("no items", where=where, expected="a line an item")
    persons: dict[str, str] = {}
    for name, who in rows:
        if persons.setdefault(name, who) != who:
            raise SphereFaceError(f"{name} is {persons[name]} and {who}", where=where)
    return list(persons), list(persons.values())


def aggregate(
    features: ArrayLike, template: ArrayLike, medium: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Return a unit feature a template, and the templates' names, sorted.

    Parameters
    ----------
    features : array_like of shape (S, K)
        Averaged as they are; give unit features where lengths are to have no say.
    template, medium : array_like of shape (S,)
        A medium's number counts within its template only.
    """
    rows = np.asarray(features, np.float64)
    names, index = np.unique(np.asarray(template, str), return_inverse=True)
    _, own = np.unique(np.asarray(medium, str), return_inverse=True)
    pair, part = np.unique(np.stack([index, own]), axis=1, return_inverse=True)
    part = part.ravel()
    media = np.zeros((pair.shape[1], rows.shape[1]))
    np.add.at(media, part, rows)
    media /= np.bincount(part)[:, None]
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, pair[0], media)
    return unit_rows(sums / np.bincount(pair[0])[:, None]), names


def template_features(features: Features, templates: TemplateList) -> Features:
    """Return the features of templates, whose names are their paths.

    Raises
    ------
    SphereFaceError
        A listed image has no features.
    """
    rows = features.rows(templates.image)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise SphereFaceError(
            f"{missing.size} images of the templates have no features, the first"
            f" {templates.image[missing[0]]}",
            where=features.where,
        )
    found, names = aggregate(features.features[rows], templates.template, templates.medium)
    return Features(names.tolist(), found, features.where)
