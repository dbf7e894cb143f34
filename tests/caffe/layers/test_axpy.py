from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "images": example("Axpy", a=(1, 4, 1, 1), x=(1, 4, 13, 11), y0=(1, 4, 13, 11)),
    "rows": example("Axpy", a=(1, 4), x=(1, 4, 5, 6), y0=(1, 4, 5, 6)),
}

TEXT = 'layer { name: "l" type: "Axpy" bottom: "a" bottom: "x" bottom: "b" top: "y" }'


@pytest.mark.parametrize("factors", [(2, 3), (2, 3, 1, 1)])
def test_axpy(factors, layer_net, rng):
    shape = (2, 3, 4, 5)
    a, (x, b, dy) = rng.normal(size=factors), rng.normal(size=(3, *shape))
    result = layer_net(TEXT, a=factors, x=shape, b=shape).run({"a": a, "x": x, "b": b}, {"y": dy})
    spread = a.reshape(2, 3, 1, 1)
    np.testing.assert_allclose(result.tops["y"], spread * x + b, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * spread, rtol=1e-12)
    np.testing.assert_array_equal(result.bottom_diffs["b"], dy)
    da = (dy * x).sum((2, 3)).reshape(factors)
    np.testing.assert_allclose(result.bottom_diffs["a"], da, rtol=1e-10)


def test_shapes_must_fit(layer_net):
    with pytest.raises(SphereFaceError, match=r"expected one shape \(N, C"):
        layer_net(TEXT, a=(2, 3), x=(2, 3, 4, 5), b=(2, 3, 4, 4))
    with pytest.raises(SphereFaceError, match=r"expected \(2, 3\), one a channel"):
        layer_net(TEXT, a=(2, 3, 2, 1), x=(2, 3, 4, 5), b=(2, 3, 4, 5))
