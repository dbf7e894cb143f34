from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "classes": example("SegAccuracy", "ignore_label: 1", x=(2, 3, 4, 5), label=(2, 1, 4, 5)),
}
SHAPE = {"x": (2, 4, 5, 6), "label": (2, 1, 5, 6)}


def layer(options: str = "", tops: str = 'top: "y"') -> str:
    return (
        f'layer {{ name: "l" type: "SegAccuracy" bottom: "x" bottom: "label" {tops}'
        f" seg_accuracy_param {{ {options} }} }}"
    )


def measures(found, label, classes, ignored=()):
    """The definitions, class by class."""
    kept = ~np.isin(label, ignored)
    found, label = found[kept], label[kept]
    recalls, jaccards, rows = [], [], []
    for c in range(classes):
        common = ((found == c) & (label == c)).sum()
        union = ((found == c) | (label == c)).sum()
        jaccards.append(common / union if union else 1.0)
        if (label == c).any():
            recalls.append(common / (label == c).sum())
            rows.append((common / (found == c).sum(), recalls[-1], jaccards[-1]))
        else:
            rows.append(None)
    return [(found == label).mean(), np.mean(recalls), np.mean(jaccards)], rows


def test_three_measures(layer_net, rng):
    x = rng.normal(size=SHAPE["x"])
    label = rng.choice([0, 1, 3, 255], size=SHAPE["label"])  # no label is 2
    net = layer_net(layer("ignore_label: 255"), **SHAPE)
    y = net.run({"x": x, "label": label}).tops["y"]
    expected, _ = measures(x.argmax(1)[:, None], label, 4, [255])
    assert y.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-12)


def test_several_ignored_labels_and_classes_with_tops(layer_net, rng):
    x, label = rng.normal(size=SHAPE["x"]), rng.integers(0, 4, SHAPE["label"])
    text = layer(
        "ignore_label: 0 ignore_label: 2 output_label: 3 output_label: 1",
        'top: "y" top: "three" top: "one"',
    )
    tops = layer_net(text, **SHAPE).run({"x": x, "label": label}).tops
    expected, rows = measures(x.argmax(1)[:, None], label, 4, [0, 2])
    np.testing.assert_allclose(tops["y"].ravel(), expected, rtol=1e-12)
    np.testing.assert_allclose(tops["three"].ravel(), rows[3], rtol=1e-12)
    np.testing.assert_allclose(tops["one"].ravel(), rows[1], rtol=1e-12)


def test_one_channel_is_a_probability(layer_net, rng):
    x, label = rng.random((2, 1, 5, 6)), rng.integers(0, 2, SHAPE["label"])
    net = layer_net(layer(), x=x.shape, label=label.shape)
    y = net.run({"x": x, "label": label}).tops["y"]
    np.testing.assert_allclose(y.ravel(), measures(x > 0.5, label, 2)[0], rtol=1e-12)


def test_of_equal_scores_the_last_class(layer_net):
    net = layer_net(layer(), x=(1, 3, 1, 2), label=(1, 1, 1, 2))
    run = net.run({"x": np.zeros((1, 3, 1, 2)), "label": np.array([[[[2, 0]]]])})
    np.testing.assert_allclose(run.tops["y"].ravel(), [1 / 2, 1 / 2, (0 + 1 + 1 / 2) / 3])


def test_nothing_but_ignored_labels(layer_net):
    net = layer_net(layer("ignore_label: 9"), x=(1, 3, 1, 2), label=(1, 1, 1, 2))
    run = net.run({"x": np.zeros((1, 3, 1, 2)), "label": np.full((1, 1, 1, 2), 9)})
    np.testing.assert_array_equal(run.tops["y"].ravel(), [0, 0, 1])


@pytest.mark.parametrize(
    ("options", "tops", "shapes", "message"),
    [
        ("reset: false", 'top: "y"', SHAPE, "reset: false"),
        ("output_label: 1", 'top: "y"', SHAPE, "1 tops"),
        ("output_label: 4", 'top: "y" top: "z"', SHAPE, "below 4"),
        ("", 'top: "y"', {**SHAPE, "label": (2, 1, 5, 5)}, r"expected \(2, 1, 5, 6\)"),
        ("", 'top: "y"', {**SHAPE, "x": (2, 4)}, r"expected \(N, C, H, W\)"),
    ],
)
def test_errors(options, tops, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options, tops), **shapes)


def test_labels_beyond_the_classes(layer_net):
    net = layer_net(layer(), x=(1, 3, 1, 2), label=(1, 1, 1, 2))
    with pytest.raises(SphereFaceError, match=r"label\[1\] is 255; expected 0 to 2"):
        net.run({"x": np.zeros((1, 3, 1, 2)), "label": np.array([[[[2, 255]]]])})
