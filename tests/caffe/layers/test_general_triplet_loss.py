from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "near_first": example("GeneralTripletLoss", "positive_first: true", x=(3, 4), label=(3,)),
    "rows": example("GeneralTripletLoss", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 3, 2])
# The third row has no class within the margin, the others have one or more.
DISTANCES = np.array(
    [
        [0.9, 0.2, 0.4, 0.6, 1.5],
        [0.3, 0.9, 0.7, 0.5, 0.1],
        [1.2, 1.3, 1.4, 0.1, 1.5],
        [0.6, 2.0, 0.3, 1.9, 1.8],
    ]
)


def layer(options: str, tops: str = 'top: "loss" top: "means"', more: str = "") -> str:
    return (
        'layer { name: "l" type: "GeneralTripletLoss" bottom: "d" bottom: "label" '
        f"{tops} {more} general_triplet_loss_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("hardest", [True, False])
def test_loss_and_gradient(hardest, center, layer_net):
    d, margin, weight = DISTANCES, 0.45, 0.25
    options = (
        f"margin: {margin} negative_weight: {weight} add_center_loss: {str(center).lower()} "
        f"hardest_only: {str(hardest).lower()}"
    )
    net = layer_net(layer(options, more="loss_weight: 2 loss_weight: 0"), d=d.shape, label=(4,))
    result = net.run({"d": d, "label": LABEL})
    loss, dd = 0.0, np.zeros_like(d)
    for i, y in enumerate(LABEL):
        terms = {j: d[i, y] + margin - d[i, j] for j in range(5) if j != y}
        active = [j for j in terms if terms[j] > 0]
        if hardest and active:
            active = [max(active, key=terms.__getitem__)]
        loss += weight * sum(terms[j] for j in active)
        dd[i, active] = -weight
        dd[i, y] = float(center or bool(active))
    np.testing.assert_allclose(result.tops["loss"], loss / 4, rtol=1e-7)
    np.testing.assert_allclose(result.bottom_diffs["d"], 2 * dd / 4, rtol=1e-7)
    own = d[np.arange(4), LABEL].sum()
    np.testing.assert_allclose(result.tops["means"], [own / 4, (d.sum() - own) / 16], rtol=1e-12)


def test_defaults(layer_net):
    net = layer_net(layer("", tops=""), d=(1, 3), label=(1,))
    result = net.run({"d": np.array([[0.5, 1.0, 1.25]]), "label": np.array([1])})
    np.testing.assert_allclose(result.tops["l"], 1.0 + 0.25)  # margin 0.5, weight 1
    np.testing.assert_allclose(result.bottom_diffs["d"], [[-1, 1, -1]])


def test_label_out_of_range(layer_net):
    net = layer_net(layer(""), d=(1, 3), label=(1,))
    with pytest.raises(SphereFaceError, match=r"label\[\d\] is -1; expected 0 to 2"):
        net.run({"d": np.ones((1, 3)), "label": np.array([-1])})


@pytest.mark.parametrize("center", ["true", "false"])
def test_positive_first_and_weight(center, layer_net, rng):
    """Rows 1 and 3 are far from their label: no triplets, and the gradient of that distance."""
    d = rng.uniform(0.5, 1, size=(4, 5))
    label = np.array([0, 3, 4, 1])
    d[[1, 3], [3, 1]] = [1.3, 1.26]
    d[[0, 2], [0, 4]] = [0.8, 0.1]
    text = layer(
        "margin: 0.25 negative_weight: 0.5 positive_weight: 2 positive_first: true"
        f" positive_upper_bound: 1.25 add_center_loss: {center}"
    )
    result = layer_net(text, d=d.shape, label=(4,)).run({"d": d, "label": label})
    loss, dd = 0.0, np.zeros_like(d)
    for i in range(4):
        own = d[i, label[i]]
        near = [j for j in range(5) if j != label[i] and own + 0.25 > d[i, j] and own <= 1.25]
        loss += sum(0.5 * (own + 0.25 - d[i, j]) for j in near)
        dd[i, near] = -0.5
        dd[i, label[i]] = 2 * (own > 1.25 or bool(near) or center == "true")
    np.testing.assert_allclose(result.tops["loss"], loss / 4, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["d"], dd / 4, rtol=1e-10)
    assert loss > 0
    assert (dd[2, 4] == 0) == (center == "false")
