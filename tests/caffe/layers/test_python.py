from __future__ import annotations

import copy
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

import sphereface.python_layer  # noqa: F401 - imported modules need no permission
from reference.margin_goldens import FILES, read
from sphereface.caffe import load
from sphereface.caffe.user_layer import PythonLayer
from sphereface.errors import SphereFaceError


class Distance(PythonLayer):
    """A loss in the style of pycaffe's example: state made in reshape, both bottoms."""

    def setup(self, bottom, top):
        assert len(bottom) == 2
        self.weight = float(self.param_str)

    def reshape(self, bottom, top):
        assert bottom[0].count == bottom[1].count
        self.difference = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.difference[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = self.weight * np.sum(self.difference**2) / bottom[0].num / 2

    def backward(self, top, propagate_down, bottom):
        self.wanted = propagate_down
        for sign, down, blob in zip((1, -1), propagate_down, bottom, strict=True):
            if down:
                slope = sign * self.weight * top[0].diff[0] / blob.num
                blob.diff[...] = slope * self.difference


class Gain(PythonLayer):
    """Two blobs; the first one's view is kept from setup, diffs are added."""

    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].channels)
        self.blobs.add_blob()
        self.gain = self.blobs[0].data
        self.gain[...] = 2
        self.seen = []

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.seen.append((self.phase, bottom[0].data.dtype))
        top[0].data[...] = bottom[0].data * self.blobs[0].data + self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff[...] += top[0].diff.sum()
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class InPlace(PythonLayer):
    """Top and bottom are one blob."""

    def reshape(self, bottom, top):
        assert top[0] is bottom[0]

    def forward(self, bottom, top):
        top[0].data[...] = 3 * bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        # the bottom's data were overwritten: 6 x from 3 x^2
        bottom[0].diff[...] *= 6 * np.sqrt(bottom[0].data / 3)


class Source(PythonLayer):
    """No bottoms, two tops; the second takes its size in forward."""

    def setup(self, bottom, top):
        self.calls = 0

    def reshape(self, bottom, top):
        top[0].reshape(2, 2)
        top[1].reshape(1)

    def forward(self, bottom, top):
        self.calls += 1
        top[0].data[...] = self.calls
        top[1].reshape(self.calls)
        top[1].data[...] = np.arange(self.calls)

    def backward(self, top, propagate_down, bottom):
        pass


class Persistent(PythonLayer):
    """Relies on Caffe's blobs being the same ones in all calls."""

    def setup(self, bottom, top):
        self.saved = top
        top[0].reshape(2, 3)
        top[0].data[...] = 7  # nobody writes it again
        top[1].reshape(2, 3)
        top[2].reshape(1)

    def reshape(self, bottom, top):
        if not hasattr(self, "first"):
            self.first = bottom[0].num

    def forward(self, bottom, top):
        top[1].data[...] += 1
        self.saved[2].data[...] = 10 * self.first
        bottom[0].diff[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] *= top[2].diff[0]


class Overwrite(PythonLayer):
    """Replaces what it reads."""

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        bottom[0].data[:] = 5

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff


@pytest.fixture(autouse=True)
def module(monkeypatch):
    made = ModuleType("layers_of_the_test")
    for cls in (Distance, Gain, InPlace, Overwrite, Persistent, Source):
        setattr(made, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, made.__name__, made)


def layer(cls: str, bottoms: str, tops: str, param_str: str = "", extra: str = "") -> str:
    names = [f'bottom: "{n}"' for n in bottoms] + [f'top: "{n}"' for n in tops]
    return (
        f'layer {{ name: "l" type: "Python" {" ".join(names)} {extra} python_param {{ '
        f'module: "layers_of_the_test" layer: "{cls}" param_str: "{param_str}" }} }}'
    )


def test_a_loss_of_two_bottoms(layer_net, rng):
    a, b = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 3))
    text = layer("Distance", "ab", "y", "0.5", "loss_weight: 3")
    result = layer_net(text, a=a.shape, b=b.shape).run({"a": a, "b": b})
    np.testing.assert_allclose(result.tops["y"], [0.5 * np.sum((a - b) ** 2) / 8], rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["a"], 3 * 0.5 * (a - b) / 4, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["b"], 3 * 0.5 * (b - a) / 4, rtol=1e-12)


def test_propagate_down_tells_which_bottoms_need_a_diff(layer_net):
    net = layer_net(layer("Distance", "ab", "y", "1"), a=(2, 3), b=(2, 3)).net
    a = torch.ones(2, 3, requires_grad=True)
    net(a=a, b=torch.zeros(2, 3, dtype=torch.int64))["y"].sum().backward()
    assert net.layer("l").instance.wanted == [True, False]
    np.testing.assert_allclose(a.grad, np.full((2, 3), 0.5))


def test_parameter_blobs(layer_net, rng):
    net = layer_net(layer("Gain", "x", "y", extra="param { lr_mult: 2 }"), x=(5, 3))
    assert net.layer.blob_names == ["blob0", "blob1"]
    assert net.layer.lr_mult == [2, 1]
    np.testing.assert_array_equal(net.layer.blob0.detach(), [2, 2, 2])
    x, dy, gain = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=3)
    net.set(blob0=gain, blob1=np.array(0.5))
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], x * gain + 0.5, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * gain, rtol=1e-12)
    np.testing.assert_allclose(result.param_diffs["blob0"], (dy * x).sum(0), rtol=1e-12)
    np.testing.assert_allclose(result.param_diffs["blob1"], dy.sum(), rtol=1e-12)
    # a second backward starts from zero diffs; autograd adds, as iter_size does
    total = net.net(torch.tensor(x))["y"]
    for _ in range(2):
        total.backward(torch.tensor(dy), retain_graph=True)
    np.testing.assert_allclose(net.layer.blob0.grad, 3 * (dy * x).sum(0), rtol=1e-12)


def test_blobs_share_memory_with_the_parameters():
    text = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }'
    net = load(text + layer("Gain", "x", "y"))
    gain = net.layer("l")
    gain.instance.gain[...] = [1, 2, 3]
    np.testing.assert_array_equal(net(x=torch.ones(1, 3))["y"].detach(), [[1, 2, 3]])
    with torch.no_grad():
        gain.blob0 += 1
    np.testing.assert_array_equal(gain.instance.blobs[0].data, [2, 3, 4])


def test_phase_and_precision(layer_net):
    net = layer_net(layer("Gain", "x", "y"), x=(2, 3)).net
    seen = net.layer("l").instance.seen
    net(x=torch.ones(2, 3, dtype=torch.float64))
    net.float().eval()
    net(x=torch.ones(2, 3))
    y = net.bfloat16()(x=torch.ones(2, 3, dtype=torch.bfloat16))["y"]
    assert seen == [(0, np.float64), (1, np.float32), (1, np.float32)]
    assert y.dtype == torch.bfloat16
    np.testing.assert_array_equal(y.detach().float(), np.full((2, 3), 2))


def test_in_place(layer_net, rng):
    text = layer("InPlace", "x", "x") + 'layer { name: "s" type: "Split" bottom: "x" top: "y" }'
    net = layer_net(text, x=(2, 3)).net
    x = torch.tensor(rng.uniform(1, 2, size=(2, 3)), requires_grad=True)
    before = x.detach().clone()
    y = net(x)["y"]
    np.testing.assert_allclose(y.detach(), 3 * before**2, rtol=1e-12)
    dy = torch.tensor(rng.normal(size=(2, 3)))
    y.backward(dy)
    np.testing.assert_allclose(x.grad, dy * 6 * before, rtol=1e-12)
    np.testing.assert_array_equal(x.detach(), before)  # the caller's tensor is his


def test_no_bottoms_and_sizes_from_forward(layer_net):
    net = layer_net(layer("Source", "", "ab")).net
    for call in (1, 2, 3):
        out = net()
        np.testing.assert_array_equal(out["a"], np.full((2, 2), call))
        np.testing.assert_array_equal(out["b"], np.arange(call))
    assert net()["a"].dtype == torch.float64
    assert net.float()()["a"].dtype == torch.float32


def test_the_same_blobs_in_all_calls(layer_net, rng):
    net = layer_net(layer("Persistent", "x", "abc"), x=(4, 3)).net
    assert net.blob_shapes == {"x": (4, 3), "a": (2, 3), "b": (2, 3), "c": (1,)}
    x = rng.normal(size=(5, 3))
    for call in (1, 2, 3):
        out = net(torch.tensor(x))
        np.testing.assert_array_equal(out["a"].detach(), np.full((2, 3), 7))
        np.testing.assert_array_equal(out["b"].detach(), np.full((2, 3), call))
        assert out["c"].item() == 40  # the batch size of the build
    # The diff that forward wrote is what backward finds.
    given = torch.tensor(x, requires_grad=True)
    net(given)["c"].backward(torch.tensor([3.0], dtype=torch.float64))
    np.testing.assert_allclose(given.grad, 6 * x, rtol=1e-12)


def test_looking_at_other_shapes_changes_nothing(layer_net):
    net = layer_net(layer("Source", "", "ab") + layer("Persistent", "a", "cde")).net
    net()
    net.infer_shapes({})
    blobs = [blob.data.copy() for blob in net.layer("l").top]
    repr(net)
    net.infer_shapes({})
    for blob, before in zip(net.layer("l").top, blobs, strict=True):
        np.testing.assert_array_equal(blob.data, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("strided", [False, True])
def test_what_is_written_into_a_bottom_is_what_later_layers_read(layer_net, dtype, strided):
    power = (
        'layer {{ name: "{0}" type: "Power" bottom: "h" top: "{0}" power_param {{ scale: 2 }} }}'
    )
    text = (
        'layer { name: "h" type: "Power" bottom: "x" top: "h" power_param { shift: 1 } }'
        + power.format("before")
        + layer("Overwrite", "h", "y")
        + power.format("after")
    )
    net = layer_net(text, x=(1, 2, 3, 3)).net.to(dtype)
    x = torch.zeros(1, 2, 3, 3, dtype=dtype)
    x = x.to(memory_format=torch.channels_last) if strided else x
    out = net(x)
    assert [out[name].unique().tolist() for name in ("before", "y", "after")] == [[2], [1], [10]]
    # The caller's tensor is his, even where the class reads it directly.
    direct = layer_net(layer("Overwrite", "x", "y") + power.replace("h", "x").format("z"), x=(2, 3))
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert direct.net(x)["z"].unique().tolist() == [10]
    assert not x.any()


def test_backward_of_an_earlier_forward(layer_net, rng):
    net = layer_net(layer("Gain", "x", "y"), x=(2, 3)).net
    first, other = (torch.tensor(rng.normal(size=(n, 3))) for n in (2, 4))
    y = net(first)["y"]
    net(other)
    y.sum().backward()
    np.testing.assert_allclose(net.layer("l").blob0.grad, first.sum(0), rtol=1e-12)


def test_other_input_sizes_and_copies(layer_net, rng):
    net = layer_net(layer("Gain", "x", "y"), x=(2, 3)).net
    twin = copy.deepcopy(net)
    with torch.no_grad():
        net.layer("l").blob0.fill_(7)
    x = torch.tensor(rng.normal(size=(6, 3)))
    np.testing.assert_allclose(net(x)["y"].detach(), 7 * x)
    np.testing.assert_allclose(twin(x)["y"].detach(), 2 * x)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # raised where dynamo resumes
def test_compile_runs_the_class_itself_and_export_refuses(layer_net, rng, dynamo):
    net = layer_net(layer("Gain", "x", "y"), x=(2, 3)).net
    x = torch.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    compiled = torch.compile(net, backend="eager")
    for _ in range(2):
        y = compiled(x)["y"]
    y.sum().backward()
    np.testing.assert_allclose(y.detach(), 2 * x.detach())
    np.testing.assert_allclose(x.grad, np.full((2, 3), 2.0))
    assert net.layer("l").instance.seen == [(0, np.float64)] * 2
    with pytest.raises(SphereFaceError, match="has no export"):
        torch.export.export(net, (x,))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_margin_inner_product_of_this_package(path, norm_error):
    golden = read(path)
    options = {"num_output": golden.num_output, "type": golden.type, **golden.annealing}
    param_str = json.dumps({**options, "iteration": golden.iteration})
    net = load(
        f"""
        layer {{ name: "x" type: "Input" top: "x"
                 input_param {{ shape {{ dim: {list(golden.x.shape)} }} }} }}
        layer {{ name: "t" type: "Input" top: "t"
                 input_param {{ shape {{ dim: {len(golden.x)} }} }} }}
        layer {{ name: "fc6" type: "Python" bottom: "x" bottom: "t" top: "y" top: "lambda"
                 python_param {{ module: "sphereface.python_layer"
                                 layer: "MarginInnerProductLayer" param_str: '{param_str}' }} }}
        """,
        phase="TRAIN",
    )
    weight = net.layer("fc6").blob0
    weight.data.copy_(torch.from_numpy(golden.weight))
    x = torch.tensor(golden.x, requires_grad=True)
    out = net(x=x, t=torch.tensor(golden.label))
    out["y"].backward(torch.tensor(golden.grad))
    assert norm_error(out["y"], golden.y) < 2e-6
    assert norm_error(weight, golden.weight_after) < 2e-6
    assert norm_error(x.grad, golden.dx) < 2e-6
    assert norm_error(weight.grad, golden.dweight) < 2e-6
    np.testing.assert_allclose(out["lambda"].detach(), golden.lambda_.ravel(), rtol=2e-6)


def test_a_class_that_fails_keeps_its_own_exception(layer_net):
    with pytest.raises(ValueError, match="could not convert string to float"):
        layer_net(layer("Distance", "ab", "y", "half"), a=(2, 3), b=(2, 3))
