from __future__ import annotations

import numpy as np

from reference.layer_examples import example

EXAMPLES = {"two": example("Gather", tops=2, x=(2, 3), z=(2,))}


def test_gather(layer_net, rng):
    net = layer_net(
        'layer { name: "l" type: "Gather" bottom: "x" bottom: "y" top: "a" top: "b" }',
        x=(2, 3),
        y=(2,),
    )
    values = {"x": rng.normal(size=(2, 3)), "y": rng.normal(size=2)}
    da, db = rng.normal(size=(2, 3)), rng.normal(size=2)
    result = net.run(values, {"a": da, "b": db})
    for name, top in (("x", "a"), ("y", "b")):
        np.testing.assert_array_equal(result.tops[top], values[name])
    np.testing.assert_array_equal(result.bottom_diffs["x"], da)
    np.testing.assert_array_equal(result.bottom_diffs["y"], db)
