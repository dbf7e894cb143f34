"""What the files named to ``sphereface evaluate`` hold: features of images, pairs with features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.evaluation.features import Features
    from sphereface.evaluation.pair_features import PairFeatures

__all__ = ["image_features", "pair_features"]


def image_features(args: argparse.Namespace, files: Sequence[str]) -> Features:
    """Return the features of images, or of templates, of one model or of several."""
    from sphereface.evaluation.ensemble import concatenated
    from sphereface.evaluation.features import read_features
    from sphereface.evaluation.templates import read_templates, template_features

    models = [read_features(name) for name in files]
    first = models[0]
    if len(models) > 1:
        parts = []
        for model in models:
            rows = model.rows(first.path)
            if (rows < 0).any():
                missing = first.path[int((rows < 0).argmax())]
                raise SphereFaceError(
                    f"no {missing}", where=model.where, expected="the same images"
                )
            parts.append(model.features[rows])
        first = replace(first, features=concatenated(parts).astype("float32"))
    return template_features(first, read_templates(args.templates)) if args.templates else first


def pair_features(args: argparse.Namespace, files: Sequence[str]) -> PairFeatures:
    """Return pairs with the features of one model, or of several side by side."""
    from sphereface.evaluation.ensemble import concatenated
    from sphereface.evaluation.features import read_features
    from sphereface.evaluation.pair_features import look_up, read_pair_features
    from sphereface.evaluation.pair_lists import read_pairs

    if args.pairs:
        fallback = read_features(args.centre_crop) if args.centre_crop else None
        pairs = look_up(read_pairs(args.pairs), image_features(args, files), fallback)
        names = pairs.missing_names
        if names and args.missing == "error":
            raise SphereFaceError(
                f"{len(names)} images of the list have no features, the first {names[0]}",
                where=files[0],
                fix="--missing wrong counts their pairs as wrong; --centre-crop FILE takes their"
                " features from there",
            )
        return pairs
    models = [read_pair_features(name) for name in files]
    first = models[0]
    if len(models) == 1:
        return first
    for model, name in zip(models, files, strict=True):
        if model.same.tolist() != first.same.tolist() or model.fold.tolist() != first.fold.tolist():
            raise SphereFaceError(
                "other flags or folds", where=name, expected=f"those of {files[0]}"
            )
    left = concatenated([model.left for model in models])
    return replace(first, left=left, right=concatenated([model.right for model in models]))
