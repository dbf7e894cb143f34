"""The Python layer under stand-ins for Caffe's objects: blobs with `data` and `diff` arrays."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from reference.margin_goldens import FILES, read
from sphereface import SphereFaceError
from sphereface.python_layer import MarginInnerProductLayer


class Blob:
    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)
        self.diff = np.zeros(shape, np.float32)


class BlobVec(list):
    def add_blob(self, *shape):
        self.append(Blob(*shape))


def make_layer(x_shape, tops=2, **options):
    layer = MarginInnerProductLayer()
    layer.param_str, layer.blobs = json.dumps(options), BlobVec()
    bottom, top = [Blob(*x_shape), Blob(x_shape[0])], [Blob() for _ in range(tops)]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    return layer, bottom, top


@pytest.mark.parametrize("tops", [1, 2])
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_recording_of_the_original(path, tops, norm_error):
    g = read(path)
    options = {"num_output": g.num_output, "type": g.type, "iteration": g.iteration, **g.annealing}
    layer, bottom, top = make_layer(g.x.shape, tops, **options)
    bottom[0].data[...], bottom[1].data[...] = g.x, g.label
    layer.blobs[0].data[...] = g.weight
    layer.forward(bottom, top)
    top[0].diff[...] = g.grad
    layer.blobs[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    assert norm_error(top[0].data, g.y) < 2e-6
    assert norm_error(layer.blobs[0].data, g.weight_after) < 2e-6
    assert norm_error(bottom[0].diff, g.dx) < 2e-6
    assert norm_error(layer.blobs[0].diff - 1, g.dweight) < 2e-6
    if tops == 2:
        np.testing.assert_allclose(top[1].data, g.lambda_, rtol=2e-6)


def test_feature_maps_shapes_and_counting():
    layer, bottom, top = make_layer((4, 3, 2, 2), num_output=5, base=10, gamma=1, type="DOUBLE")
    assert layer.blobs[0].data.shape == (5, 12)
    assert 0 < np.abs(layer.blobs[0].data).max() <= 0.5
    bottom[0].data[...] = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    for count in (1, 2):
        layer.forward(bottom, top)
        assert top[1].data == pytest.approx(10 / (1 + count))
    bottom[0].reshape(6, 3, 2, 2)
    bottom[1].reshape(6)
    layer.reshape(bottom, top)
    assert top[0].data.shape == (6, 5)
    layer.backward(top, [False, False], bottom)
    assert not bottom[0].diff.any()


@pytest.mark.parametrize("margin", ["TRIPLE", 1.7])
def test_exact_gradient_is_that_of_torch(margin, norm_error):
    layer, bottom, top = make_layer((6, 5), num_output=4, type=margin, gradient="EXACT")
    rng = np.random.default_rng(3)
    bottom[0].data[...], bottom[1].data[...] = rng.normal(size=(6, 5)), [0, 3, 1, 1, 2, 0]
    before = layer.blobs[0].data.copy()
    layer.forward(bottom, top)
    np.testing.assert_array_equal(layer.blobs[0].data, before)
    top[0].diff[...] = rng.normal(size=(6, 4))
    layer.backward(top, [True, False], bottom)
    # psi by angles, in float64.
    x = torch.tensor(bottom[0].data, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(before, dtype=torch.float64, requires_grad=True)
    label = torch.tensor(bottom[1].data).long()
    length, y = x.norm(dim=1), x @ torch.nn.functional.normalize(weight).T
    cosine = y.gather(1, label[:, None])[:, 0] / length
    angle = (3 if margin == "TRIPLE" else margin) * cosine.acos()
    k = torch.floor(angle.detach() / np.pi)
    psi = (-1) ** k * angle.cos() - 2 * k
    value = length * (psi + top[1].data.item() * cosine) / (1 + top[1].data.item())
    y = y.scatter(1, label[:, None], value[:, None])
    y.backward(torch.tensor(top[0].diff, dtype=torch.float64))
    assert norm_error(top[0].data, y) < 1e-6
    assert norm_error(bottom[0].diff, x.grad) < 1e-5
    assert norm_error(layer.blobs[0].diff, weight.grad) < 1e-5


def test_existing_blobs_are_kept():
    layer, bottom, top = make_layer((4, 12), num_output=5)
    weight = layer.blobs[0].data.copy()
    layer.setup(bottom, top)
    np.testing.assert_array_equal(layer.blobs[0].data, weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_outputs": 5}, 'unknown option "num_outputs".*did you mean "num_output"'),
        ({}, "no num_output; expected for example"),
        ({"num_output": 5, "base": -1}, "base is -1; expected a float32 number >= 0"),
        ({"num_output": 5, "base": "x"}, "base is 'x'"),
        ({"num_output": 5, "iteration": 2.5}, "iteration is 2.5; expected an integer"),
        ({"num_output": 5, "ignore_label": "x"}, "ignore_label is 'x'"),
        ({"num_output": 5, "type": "FIVE"}, "margin is 'FIVE'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(SphereFaceError, match=message):
        make_layer((4, 12), **options)


def test_bad_param_str_and_shapes_are_named():
    layer, bottom, top = make_layer((4, 12), num_output=5)
    layer.param_str = "num_output: 5"
    with pytest.raises(SphereFaceError, match="is not JSON.*for example"):
        layer.setup(bottom, top)
    layer.param_str = "[5]"
    with pytest.raises(SphereFaceError, match="is not an object"):
        layer.setup(bottom, top)
    with pytest.raises(SphereFaceError, match="1 bottoms and 2 tops"):
        layer.setup(bottom[:1], top)
    bottom[0].reshape(4, 13)
    with pytest.raises(SphereFaceError, match=r"\(4, 13\), 13 features.*expected 12"):
        layer.reshape(bottom, top)
    bottom[0].reshape(4, 12)
    bottom[1].data[...] = 5
    with pytest.raises(SphereFaceError, match=r"label\[0\] is 5; expected 0 to 4"):
        layer.forward(bottom, top)


def test_derives_from_caffes_layer_where_caffe_is():
    script = """
        import sys, types
        caffe = types.ModuleType("caffe")
        caffe.Layer = type("Layer", (), {})
        sys.modules["caffe"] = caffe
        from sphereface.python_layer import MarginInnerProductLayer
        assert issubclass(MarginInnerProductLayer, caffe.Layer)
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
