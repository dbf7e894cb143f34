from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "sum": example("Reduction", "axis: 1", x=(1, 4, 13, 11)),
    "asum": example("Reduction", "axis: -2 operation: ASUM", x=(1, 4, 13, 11)),
    "sumsq": example("Reduction", "axis: 1 operation: SUMSQ coeff: 3", x=(1, 4, 13, 11)),
    "mean": example("Reduction", "axis: 2 operation: MEAN", x=(1, 4, 13, 11)),
}

FORWARD = {
    "SUM": lambda rows: rows.sum(1),
    "ASUM": lambda rows: np.abs(rows).sum(1),
    "SUMSQ": lambda rows: (rows**2).sum(1),
    "MEAN": lambda rows: rows.sum(1) / rows.shape[1],
}
SLOPE = {
    "SUM": np.ones_like,
    "ASUM": np.sign,
    "SUMSQ": lambda rows: 2 * rows,
    "MEAN": lambda rows: np.full_like(rows, 1 / rows.shape[1]),
}


def layer(options: str = "") -> str:
    return (
        'layer { name: "l" type: "Reduction" bottom: "x" top: "y" '
        f"reduction_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("coeff", [None, -2.5])
@pytest.mark.parametrize("axis", [None, 1, 2, -1])
@pytest.mark.parametrize("operation", [None, "SUM", "ASUM", "SUMSQ", "MEAN"])
def test_reduction(operation, axis, coeff, layer_net, rng):
    given = {"operation": operation, "axis": axis, "coeff": coeff}
    options = " ".join(f"{name}: {value}" for name, value in given.items() if value is not None)
    operation, axis, coeff = operation or "SUM", axis or 0, coeff or 1
    x = rng.normal(size=(2, 3, 4))
    x[1, 1] = 0  # where |x| has a kink, Caffe's gradient is zero
    kept = x.shape[: axis % 3]
    dy = rng.normal(size=kept)
    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    rows = x.reshape(int(np.prod(kept)), -1)
    assert result.tops["y"].shape == kept
    np.testing.assert_allclose(
        result.tops["y"].ravel(), coeff * FORWARD[operation](rows), rtol=1e-12, atol=1e-14
    )
    dx = coeff * dy.reshape(-1, 1) * SLOPE[operation](rows)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx.reshape(x.shape), rtol=1e-12)


def test_an_axis_that_is_not_there(layer_net):
    with pytest.raises(SphereFaceError, match="axis 2 for a bottom"):
        layer_net(layer("axis: 2"), x=(2, 3))
