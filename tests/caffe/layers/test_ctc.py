from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "alone": example("CTCGreedyDecoder", x=(6, 2, 5), batch=False),
    "decoder": example("CTCGreedyDecoder", x=(6, 2, 5), cont=(6, 2), tops=2, batch=False),
}

T, N, C = 4, 3, 3
INDICATORS = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 0, 1]])  # column 1 has 3 steps
LABELS = np.array([[0, 1, 1], [1, -1, 1], [-1, -1, -1], [-1, -1, -1]])


def layer(kind: str, options: str = "", bottoms: str = "xcl", tops: str = "y") -> str:
    field = {"CTCLoss": "ctc_loss_param", "CTCGreedyDecoder": "ctc_decoder_param"}[kind]
    names = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops]
    return f'layer {{ name: "l" type: "{kind}" {" ".join(names)} {field} {{ {options} }} }}'


def collapsed(path, blank):
    return [label for label, _ in groupby(path) if label != blank]


def ctc(x, blank):
    """Minus the mean logarithm of the probability of all paths that collapse to the labels."""
    total = 0.0
    for n, steps in enumerate([4, 3, 4]):
        p = np.exp(x[:steps, n]) / np.exp(x[:steps, n]).sum(1, keepdims=True)
        wanted = [label for label in LABELS[:, n] if label >= 0]
        total -= np.log(
            sum(
                np.prod([p[t, label] for t, label in enumerate(path)])
                for path in product(range(C), repeat=steps)
                if collapsed(path, blank) == wanted
            )
        )
    return float(total / N)


def test_loss_and_gradient(layer_net, rng):
    x = rng.normal(size=(T, N, C))
    text = layer("CTCLoss").replace("ctc_loss", "loss_weight: 3 ctc_loss")
    net = layer_net(text, x=x.shape, c=(T, N), l=(T, N))
    result = net.run({"x": x, "c": INDICATORS, "l": LABELS})
    assert float(result.tops["y"]) == pytest.approx(ctc(x, 2), rel=1e-10)
    dx = numeric_gradient(lambda x: ctc(x, 2), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, atol=1e-8)


def test_decoder(layer_net):
    x = np.full((5, 2, 4), -1.0)
    for n, path in enumerate([[1, 1, 0, 1, 2], [3, 2, 2, 3, 3]]):
        for t, label in enumerate(path):
            x[t, n, label] = t + 1
    ends = np.array([[0, 0], [1, 1], [1, 1], [1, 1], [1, 0]])  # column 1 has 4 steps
    text = layer("CTCGreedyDecoder", "blank_index: 0", "xc", "ys")
    result = layer_net(text, x=x.shape, c=(5, 2)).run({"x": x, "c": ends})
    expected = np.array([[1, 1, 2, -1, -1], [3, 2, 3, -1, -1]]).T
    np.testing.assert_array_equal(result.tops["y"][..., 0, 0], expected)
    np.testing.assert_array_equal(result.tops["s"].ravel(), [-15, -10])
    text = layer("CTCGreedyDecoder", "ctc_merge_repeated: false", "xc")
    result = layer_net(text, x=x.shape, c=(5, 2)).run({"x": x, "c": ends})
    expected = np.array([[1, 1, 0, 1, 2], [2, 2, -1, -1, -1]]).T  # the blank is the last class, 3
    np.testing.assert_array_equal(result.tops["y"][..., 0, 0], expected)


def test_decoder_of_scores_alone(layer_net, rng):
    x = rng.normal(size=(5, 2, 4))
    text = layer("CTCGreedyDecoder", bottoms="x", tops="ys")
    result = layer_net(text, x=x.shape).run({"x": x})
    for n in range(2):
        path = collapsed(x[:, n].argmax(1), 3)
        expected = path + [-1] * (5 - len(path))
        np.testing.assert_array_equal(result.tops["y"][:, n].ravel(), expected)
    np.testing.assert_allclose(result.tops["s"].ravel(), -x.max(2).sum(0), rtol=1e-12)
    with pytest.raises(SphereFaceError, match="3 tops of 1 bottoms"):
        layer_net(layer("CTCGreedyDecoder", bottoms="x", tops="ysa"), x=x.shape)


@pytest.mark.parametrize("tops", ["ya", "ysa"])
def test_accuracy(tops, layer_net):
    paths = [[1, 0, 2, 0, 3], [1, 2, 3, 1, 2], [0, 0, 0, 0, 0]]
    x = np.eye(4)[np.array(paths).T]
    labels = np.full((5, 3), -1)
    labels[:4, 0], labels[:2, 1] = [1, 3, 2, 3], [1, 3]  # one inserted; three removed
    text = layer("CTCGreedyDecoder", "blank_index: 0", "xcl", tops)
    ones = np.ones((5, 3))
    net = layer_net(text, x=x.shape, c=(5, 3), l=(5, 3))
    result = net.run({"x": x, "c": ones, "l": labels})
    assert result.tops["a"].item() == pytest.approx(1 - (1 / 4 + 3 / 5 + 0) / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("CTCLoss", "output_delay: 1", "output_delay: 1; expected its default"),
        ("CTCLoss", "ctc_merge_repeated: false", "ctc_merge_repeated: False"),
        ("CTCLoss", "preprocess_collapse_repeated: true", "preprocess_collapse_repeated: True"),
        ("CTCLoss", "blank_index: 3", "blank_index 3; expected at most 2"),
        ("CTCGreedyDecoder", "blank_index: 9", "blank_index 9; expected at most 2"),
    ],
)
def test_options_that_cannot_be(kind, options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(kind, options), x=(T, N, C), c=(T, N), l=(T, N))


def test_bottoms_that_cannot_be(layer_net, rng):
    with pytest.raises(SphereFaceError, match=r"expected \(4, 3\)"):
        layer_net(layer("CTCLoss"), x=(T, N, C), c=(T, N), l=(N, T))
    with pytest.raises(SphereFaceError, match=r"expected \(T, N, classes\)"):
        layer_net(layer("CTCLoss"), x=(T, N), c=(T, N), l=(T, N))
    with pytest.raises(SphereFaceError, match="labels as the third bottom"):
        layer_net(layer("CTCGreedyDecoder", "", "xc", "ysa"), x=(T, N, C), c=(T, N))
    net = layer_net(layer("CTCLoss"), x=(T, N, C), c=(T, N), l=(T, N))
    with pytest.raises(SphereFaceError, match="a label is 2, the blank"):
        net.run({"x": rng.normal(size=(T, N, C)), "c": INDICATORS, "l": LABELS + 1})
