from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "pairs": example("ContrastiveLoss", x=(3, 4), z=(3, 4), label=(3,)),
}


def layer(options: str = "", extra: str = "") -> str:
    return (
        'layer { name: "l" type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "s" '
        f'top: "y" {extra} contrastive_loss_param {{ {options} }} }}'
    )


def contrastive(a, b, similar, margin, legacy, weight):
    """Loss and diffs, pair by pair, with the original's slope mdist / (dist + 1e-4)."""
    n = len(a)
    a, b = a.reshape(n, -1), b.reshape(n, -1)
    loss, da = 0.0, np.zeros_like(a)
    for i in range(n):
        difference = a[i] - b[i]
        square = difference @ difference
        distance = np.sqrt(square)
        if int(similar.ravel()[i]):
            loss += square
            da[i] = difference
        elif legacy:
            loss += max(margin - square, 0)
            if margin - square > 0:
                da[i] = -difference
        else:
            loss += max(margin - distance, 0) ** 2
            if margin - distance > 0:
                da[i] = -(margin - distance) / (distance + 1e-4) * difference
    return loss / n / 2, da * weight / n


@pytest.mark.parametrize("legacy", [None, True])
@pytest.mark.parametrize("margin", [None, 2.5])
@pytest.mark.parametrize("weight", [None, 0.5])
@pytest.mark.parametrize("axes", [(), (1, 1)])
def test_contrastive_loss(axes, weight, margin, legacy, layer_net, rng):
    n, c = 8, 3
    a = rng.normal(size=(n, c))
    # distances below, at and beyond every margin, zero, and next to zero
    radii = np.array([0.3, 0.3, 1.4, 1.4, 4, 4, 0, 1e-5])
    direction = rng.normal(size=(n, c))
    b = a + radii[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    similar = np.array([1, 0, 1, 0, 2.0, 0.9, 0, 0])  # truncated: 0.9 is not similar
    shape, pairs = (n, c, *axes), (n, *(1 for _ in axes))
    options = ("" if margin is None else f"margin: {margin} ") + (
        "legacy_version: true" if legacy else ""
    )
    extra = "" if weight is None else f"loss_weight: {weight}"
    net = layer_net(layer(options, extra), a=shape, b=shape, s=pairs)
    result = net.run({"a": a.reshape(shape), "b": b.reshape(shape), "s": similar.reshape(pairs)})
    loss, da = contrastive(a, b, similar, margin or 1, legacy, weight or 1)
    np.testing.assert_allclose(result.tops["y"], loss, rtol=1e-12)
    found = {name: diff.reshape(n, c) for name, diff in result.bottom_diffs.items()}
    np.testing.assert_allclose(found["a"], da, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found["b"], -da, rtol=1e-9, atol=1e-14)
    assert "s" not in found
    assert not found["a"][6].any()


@pytest.mark.parametrize(
    ("a", "b", "s", "message"),
    [
        ((4, 3), (4, 2), (4,), r"features of shapes \(4, 3\) and \(4, 2\)"),
        ((4, 3, 2), (4, 3, 2), (4,), "features of shapes"),
        ((4, 3), (4, 3), (3,), r"similar of shape \(3,\)"),
        ((4, 3), (4, 3), (4, 2), r"similar of shape \(4, 2\)"),
        ((4, 3), (2, 3), (4,), "the same first dimension"),
    ],
)
def test_what_does_not_fit(a, b, s, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), a=a, b=b, s=s)
