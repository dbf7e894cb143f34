from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example("MultinomialLogisticLoss", p=(3, 4), label=(3,)),
}


def layer(extra: str = "") -> str:
    return (
        'layer { name: "l" type: "MultinomialLogisticLoss" bottom: "x" bottom: "t" '
        f'top: "y" {extra} }}'
    )


@pytest.mark.parametrize("weight", [None, 4])
@pytest.mark.parametrize(("shape", "labels"), [((5, 4), (5,)), ((5, 2, 2), (5, 1, 1))])
def test_loss_and_diff(shape, labels, weight, layer_net, rng):
    p, t = rng.uniform(0.01, 1, size=shape), rng.integers(0, 4, size=labels)
    rows = p.reshape(5, 4)
    rows[0, t.ravel()[0]], rows[1, t.ravel()[1]] = 0, 1e-21  # clamped to 1e-20
    net = layer_net(layer(f"loss_weight: {weight}" if weight else ""), x=shape, t=labels)
    result = net.run({"x": p, "t": t})
    loss, dx = 0.0, np.zeros((5, 4))
    for i, label in enumerate(t.ravel()):
        own = max(rows[i, label], 1e-20)
        loss -= np.log(own) / 5
        dx[i, label] = -(weight or 1) / 5 / own
    np.testing.assert_allclose(result.tops["y"], loss, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx.reshape(shape), rtol=1e-12)
    assert "t" not in result.bottom_diffs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_threshold_in_other_precisions(dtype, layer_net):
    net = layer_net(layer(), x=(1, 2), t=(1,)).net
    loss = net(x=torch.zeros(1, 2, dtype=dtype), t=torch.zeros(1))["y"]
    np.testing.assert_allclose(float(loss), -np.log(1e-20), rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range(label, layer_net):
    net = layer_net(layer(), x=(2, 4), t=(2,))
    with pytest.raises(SphereFaceError, match=rf"label\[\d\] is {label}; expected 0 to 3"):
        net.run({"x": np.ones((2, 4)), "t": np.array([0, label])})


@pytest.mark.parametrize(
    ("t", "message"), [((3,), "the same first dimension"), ((2, 2), "one label a sample")]
)
def test_what_does_not_fit(t, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(), x=(2, 4), t=t)
