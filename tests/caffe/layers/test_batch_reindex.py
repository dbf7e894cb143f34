from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "samples": example("BatchReindex", x=(6, 3), index=(4,)),
}

LAYER = 'layer { name: "l" type: "BatchReindex" bottom: "x" bottom: "i" top: "y" }'


@pytest.mark.parametrize("indices", [[3, 0, 3, 1, 3.9], [2], [0, 1, 2, 3]])
@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_diffs_of_repeats_add_up(shape, indices, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=(len(indices), *shape[1:]))
    result = layer_net(LAYER, x=shape, i=(len(indices),)).run(
        {"x": x, "i": np.array(indices, float)}, {"y": dy}
    )
    dx = np.zeros(shape)
    for row, index in enumerate(indices):
        np.testing.assert_array_equal(result.tops["y"][row], x[int(index)])
        dx[int(index)] += dy[row]
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12, atol=1e-15)
    assert "i" not in result.bottom_diffs


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_out_of_range(index, layer_net):
    net = layer_net(LAYER, x=(4, 2), i=(2,))
    with pytest.raises(
        SphereFaceError, match=rf'layer "l".*index\[\d\] is {index}; expected 0 to 3'
    ):
        net.run({"x": np.zeros((4, 2)), "i": np.array([0, index])})


def test_indices_have_one_axis(layer_net):
    with pytest.raises(SphereFaceError, match="indices of one axis"):
        layer_net(LAYER, x=(4, 2), i=(2, 1))
