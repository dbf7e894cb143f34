from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "all": example("Accuracy", x=(3, 4), label=(3,)),
}


def layer(options: str = "", tops: str = 'top: "y"') -> str:
    return (
        f'layer {{ name: "l" type: "Accuracy" bottom: "x" bottom: "t" {tops} '
        f"accuracy_param {{ {options} }} }}"
    )


def accuracy(x, t, axis, top_k, ignore=None):
    """Rank by (score, index), both descending, as a sort of pairs does."""
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    right, total = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for row, label in zip(rows, t.reshape(-1).astype(int), strict=True):
        if label == ignore:
            continue
        best = sorted(((score, index) for index, score in enumerate(row)), reverse=True)[:top_k]
        total[label] += 1
        right[label] += label in [index for _, index in best]
    per_class = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
    return right.sum() / total.sum(), per_class


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize("axis", [1, -1])
def test_accuracy(top_k, ignore, axis, layer_net, rng):
    x = rng.normal(size=(6, 5, 5)).round(1)  # rounding makes ties
    t = rng.integers(0, 5, size=(6, 5))
    options = f"top_k: {top_k} axis: {axis}" + (
        "" if ignore is None else f" ignore_label: {ignore}"
    )
    net = layer_net(layer(options, 'top: "y" top: "c"'), x=x.shape, t=t.shape)
    expected, per_class = accuracy(x, t, axis, top_k, ignore)
    assert 0 < expected <= 1
    result = net.run({"x": x, "t": t})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    np.testing.assert_allclose(result.tops["c"], per_class, rtol=1e-12)
    assert not result.bottom_diffs


def test_of_equal_scores_the_later_class_ranks_higher(layer_net):
    x, t = np.zeros((2, 4)), np.array([3, 2])
    assert layer_net(layer(), x=x.shape, t=t.shape).run({"x": x, "t": t}).tops["y"] == 0.5


@pytest.mark.parametrize("top_k", [1, 3, 4])
def test_a_score_that_is_none_is_never_right(top_k, layer_net):
    nan = np.nan
    x = np.array([[nan] * 4, [9, 0, nan, 1], [9, 0, nan, 1], [9, 0, 2, 1]])
    t = np.array([3, 2, 0, 0])
    net = layer_net(layer(f"top_k: {top_k}"), x=x.shape, t=t.shape)
    # The third label is behind one NaN; the first two have no score.
    expected = {1: 0.25, 3: 0.5, 4: 0.5}[top_k]
    assert net.run({"x": x, "t": t}).tops["y"] == expected
    net = layer_net(layer(f"top_k: {top_k} min_is_better: true"), x=x.shape, t=t.shape)
    assert net.run({"x": -x, "t": t}).tops["y"] == expected


def test_smaller_is_better(layer_net):
    x, t = np.array([[1.0, 2.0, 3.0]]), np.array([0])
    net = layer_net(layer("min_is_better: true"), x=x.shape, t=t.shape)
    assert net.run({"x": x, "t": t}).tops["y"] == 1


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [("top_k: 6", 4, "top_k 6; expected 1 to 5"), ("", 3, "3 labels .*expected 4 labels")],
)
def test_impossible_options_are_refused(options, labels, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(4, 5), t=(labels,))


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range(label, layer_net):
    x, t = np.zeros((3, 5)), np.array([0, label, 4])
    with pytest.raises(SphereFaceError, match=rf"label\[1\] is {label}; expected 0 to 4"):
        layer_net(layer(), x=x.shape, t=t.shape).run({"x": x, "t": t})
    net = layer_net(layer(f"ignore_label: {label}"), x=x.shape, t=t.shape)
    assert net.run({"x": x, "t": t}).tops["y"] == 0.5
