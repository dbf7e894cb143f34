from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import Net, load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "constant": example("DummyData", "shape { dim: 2 dim: 3 } data_filler { value: 0.5 }"),
}


def net(options: str, tops: str = "ab") -> Net:
    names = " ".join(f'top: "{name}"' for name in tops)
    return load(f'layer {{ name: "l" type: "DummyData" {names} dummy_data_param {{ {options} }} }}')


def test_no_filler_gives_zeros_of_one_shape():
    out = net("shape { dim: 2 dim: 3 }")()
    assert {name: tuple(x.shape) for name, x in out.items()} == {"a": (2, 3), "b": (2, 3)}
    assert not any(x.any() for x in out.values())


def test_constants_stay_and_random_values_are_new_in_every_forward():
    built = net(
        "shape { dim: 2 dim: 3 } shape { dim: 4000 }"
        ' data_filler { type: "constant" value: 2.5 }'
        ' data_filler { type: "gaussian" mean: 5 std: 2 }'
    )
    first, second = built(), built()
    for out in (first, second):
        np.testing.assert_array_equal(out["a"], np.full((2, 3), 2.5))
        assert abs(float(out["b"].mean()) - 5) < 0.2
        assert abs(float(out["b"].std()) - 2) < 0.15
    assert not (first["b"] == second["b"]).any()


def test_one_filler_for_all_tops():
    out = net('shape { dim: 1000 } data_filler { type: "uniform" min: -3 max: -1 }')()
    for x in out.values():
        assert -3 <= float(x.min()) < -2.9
        assert -1.1 < float(x.max()) <= -1
    assert not (out["a"] == out["b"]).all()


def test_numbers_follow_torchs_seed():
    built = net('shape { dim: 5 } data_filler { type: "gaussian" }')
    torch.manual_seed(3)
    first = built()["a"]
    torch.manual_seed(3)
    np.testing.assert_array_equal(built()["a"], first)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ("num: 2 channels: 3 height: 4 width: 5", ((2, 3, 4, 5), (2, 3, 4, 5))),
        ("num: 2 num: 6 channels: 3 height: 1 width: 1", ((2, 3, 1, 1), (6, 3, 1, 1))),
        ("shape { dim: 7 } shape { dim: 8 dim: 9 }", ((7,), (8, 9))),
    ],
)
def test_shapes(options, shapes):
    built = net(options)
    assert built.blob_shapes == dict(zip("ab", shapes, strict=True))
    assert tuple(tuple(x.shape) for x in built().values()) == shapes


def test_device_and_dtype_are_the_nets_and_nothing_is_saved():
    built = net('shape { dim: 2 } data_filler { type: "uniform" }', "a").double()
    assert built()["a"].dtype == torch.float64
    assert not built.state_dict()
    assert copy.deepcopy(built)()["a"].shape == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "0 shape values for 3 tops"),
        ("shape { dim: 1 } shape { dim: 2 }", "2 shape values for 3 tops"),
        ("num: 2 channels: 3 height: 4", "0 width values for 3 tops"),
        ("num: 2 shape { dim: 2 }", "both shape and num, channels, height, width"),
        ("shape { dim: 1 } data_filler { } data_filler { }", "2 data_filler values for 3 tops"),
        ('shape { dim: 1 } data_filler { type: "gausian" }', 'unknown filler type "gausian"'),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(SphereFaceError, match=f'prototxt:1: layer "l".*{message}'):
        net(options, "abc")
