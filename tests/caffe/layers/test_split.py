from __future__ import annotations

import numpy as np

from reference.layer_examples import example

EXAMPLES = {
    "two": example("Split", tops=2, x=(1, 4, 13, 11)),
}


def test_tops_are_the_bottom_and_diffs_add_up(layer_net, rng):
    text = 'layer { name: "l" type: "Split" bottom: "x" top: "a" top: "b" top: "c" }'
    x, da, db = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    result = layer_net(text, x=(2, 3)).run({"x": x}, {"a": da, "b": db})
    for name in "abc":
        np.testing.assert_array_equal(result.tops[name], x)
    np.testing.assert_allclose(result.bottom_diffs["x"], da + db)


def test_one_top(layer_net, rng):
    x = rng.normal(size=(2, 3))
    text = 'layer { name: "l" type: "Split" bottom: "x" top: "a" }'
    np.testing.assert_array_equal(layer_net(text, x=(2, 3)).run({"x": x}).tops["a"], x)
