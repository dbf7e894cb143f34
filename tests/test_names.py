"""Names, positions and defaults that other programs rely on."""

from __future__ import annotations

import inspect

import pytest

import sphereface
from sphereface import nn, numpy_ops

REQUIRED = inspect.Parameter.empty
LOSS = {
    "x": REQUIRED, "weight": REQUIRED, "label": REQUIRED, "lambda_": None, "margin": 4,
    "gradient": "caffe", "ignore_index": None, "reduction": "mean", "label_smoothing": 0.0,
    "class_weight": None, "memory": None,
}  # fmt: skip
HEADS = {
    "ASoftmax": {}, "LSoftmax": {"margin": 2}, "CosFace": {"margin": 0.35, "scale": 64.0},
    "ArcFace": {"margin": 0.5, "scale": 64.0, "easy": False},
    "CombinedMargin": {"m1": 1.0, "m2": 0.0, "m3": 0.0, "scale": 64.0, "easy": False},
    "NormFace": {"scale": 20.0}, "L2Softmax": {"scale": 16.0, "bias": True},
    "COCO": {"scale": 30.0}, "SphereFace2": {"margin": 0.4, "scale": 30.0, "t": 3.0, "alpha": 0.7},
    "SphereFaceR": {"margin": 1.5, "scale": 30.0, "feature_norm": "hard"},
}  # fmt: skip


def defaults(function):
    named = (p for p in inspect.signature(function).parameters.values() if p.kind < p.VAR_KEYWORD)
    return {p.name: p.default for p in named if p.kind != p.VAR_POSITIONAL}


@pytest.mark.parametrize(
    ("function", "last"),
    [(sphereface.margin_softmax_loss, "return_stats"), (numpy_ops.margin_softmax_loss, "")],
)
def test_the_loss(function, last):
    expected = {**LOSS, **({last: False} if last else {})}
    assert [*defaults(function).items()][: len(expected)] == [*expected.items()]


@pytest.mark.parametrize("name", HEADS)
def test_the_modules(name):
    expected = {"in_features": REQUIRED, "num_classes": REQUIRED, **HEADS[name]}
    found = defaults(getattr(nn, f"{name}Loss"))
    assert [*found.items()][: len(expected)] == [*expected.items()]


def test_the_split_loss():
    from sphereface.distributed import ShardedMarginLoss

    expected = {"in_features": REQUIRED, "num_classes": REQUIRED, "margin": 4}
    assert [*defaults(ShardedMarginLoss).items()][:3] == [*expected.items()]
