from __future__ import annotations

import copy
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from sphereface.caffe import Layer, Net, list_layers, load, register_layer, registry
from sphereface.caffe.load import load_graph
from sphereface.convert import pytorch_source
from sphereface.convert.onnx import ONNX_LAYERS, onnx_layer, onnx_model
from sphereface.errors import SphereFaceError
from sphereface.inspection.boxes import net_diagram

GAIN = """message TestGainParameter {
  optional float gain = 1 [default = 2];
  optional FillerParameter filler = 2;
}"""
INPUT = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


@pytest.fixture
def clean_registry(monkeypatch):
    """Let a test register layers and forget them."""
    list_layers()
    monkeypatch.setattr(registry, "LAYERS", dict(registry.LAYERS))
    monkeypatch.setattr(ONNX_LAYERS, "_outside", {})


@pytest.mark.usefixtures("clean_registry")
def test_a_layer_from_outside_with_its_own_message():
    @register_layer("TestGain", param="test_gain_param", message=GAIN)
    class TestGain(Layer):
        def setup(self, bottom_shapes):
            self.gain = self.options.gain
            self.add_blob("offset", bottom_shapes[0][1:], self.options.filler)

        def forward(self, x):
            return self.gain * x + self.offset

    assert "TestGain" in list_layers()
    net = load(
        INPUT + 'layer { name: "g" type: "TestGain" bottom: "x" top: "y" '
        "param { lr_mult: 3 } test_gain_param { gain: 5 filler { value: 7 } } }"
    )
    assert net(torch.ones(2, 3))["y"].tolist() == [[12.0] * 3] * 2
    assert list(net.state_dict()) == ["g.offset"]
    assert net.layer("g").lr_mult == [3.0]
    default = load(INPUT + 'layer { name: "g" type: "TestGain" bottom: "x" top: "y" }')
    assert default(torch.ones(2, 3))["y"].tolist() == [[2.0] * 3] * 2


@pytest.mark.usefixtures("clean_registry")
def test_two_layers_from_outside_do_not_share_a_type():
    @register_layer("TestOnce")
    class First(Layer):
        pass

    register_layer("TestOnce")(First)  # as a notebook's cell that is run again
    with pytest.raises(SphereFaceError, match='"TestOnce" is already registered; expected a name'):

        @register_layer("TestOnce")
        class Second(Layer):
            pass


POOL = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 2, 2] } } }
layer { name: "p" type: "Pooling" bottom: "x" top: "y"
  pooling_param { pool: MAX kernel_size: 2 } }"""


@pytest.mark.usefixtures("clean_registry")
def test_a_layer_of_this_package_is_replaced_for_nets_to_come():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    before = load(POOL)
    earlier_graph = load_graph(POOL)
    line = 'layer type "Pooling" is .*test_a_layer_of.*Pooling from now on, in place of'
    with pytest.warns(UserWarning, match=line) as warned:

        @register_layer(
            "Pooling",
            param="my_pool_param",
            message="message MyPoolParameter { optional float shift = 1 [default = 5]; }",
        )
        class Pooling(Layer):
            def setup(self, bottom_shapes):
                self.shift = self.options.shift

            def forward(self, x):
                return x + self.shift

    assert len(warned) == 1
    after = load(POOL)
    np.testing.assert_array_equal(after(x)["y"], x + 5)
    # Nets and graphs from before, their copies and their forms are what they were.
    for net in (before, copy.deepcopy(before), Net(earlier_graph)):
        assert net(x)["y"].item() == 3
        assert net.layer("p").options.kernel_size == 2
        assert [node.op_type for node in onnx_model(net).graph.node] == ["MaxPool"]
        assert "max_pool2d" in pytorch_source(net) or "MaxPool2d" in pytorch_source(net)
    with pytest.raises(SphereFaceError, match="layer type Pooling has no ONNX form"):
        onnx_model(after)
    np.testing.assert_array_equal(copy.deepcopy(after)(x)["y"], x + 5)
    assert [stripe.name for box in net_diagram(after).boxes for stripe in box.stripes]

    @onnx_layer("Pooling")
    def write_pooling(graph, layer, x):
        return graph.node("Add", x, graph.constant(layer.shift))

    assert [node.op_type for node in onnx_model(after).graph.node] == ["Add"]
    assert [node.op_type for node in onnx_model(before).graph.node] == ["MaxPool"]


REPLACED_FIRST = """
import warnings
import sphereface.caffe as caffe

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")

    @caffe.register_layer("ReLU", param="relu_param")
    class ReLU(caffe.Layer):
        def forward(self, x):
            return x + 1

net = caffe.load('input: "x" input_dim: [1, 1, 1, 1] layer { name: "r" type: "ReLU" bottom: "x" '
                 'top: "y" } layer { name: "s" type: "Sigmoid" bottom: "y" top: "z" }')
import torch
print(net(torch.ones(1, 1, 1, 1), blobs=["y"])["y"].item(), len(told))
"""


def test_before_the_first_net_too():
    result = subprocess.run(
        [sys.executable, "-c", REPLACED_FIRST], capture_output=True, text=True, check=True
    )
    assert result.stdout == "2.0 1\n"


@pytest.mark.usefixtures("clean_registry")
def test_the_parameter_must_exist():
    with pytest.raises(SphereFaceError, match='no field "prelu_parm"; did you mean "prelu_param"'):

        @register_layer("Mine", param="prelu_parm")
        class Mine(Layer):
            pass

    assert "Mine" not in registry.LAYERS


def test_an_unknown_type_names_line_and_nearest():
    with pytest.raises(
        SphereFaceError,
        match=r'^prototxt:2: layer "l" \(PRelu\): unknown layer type "PRelu"; did you mean "PReLU"',
    ):
        load(INPUT + '\nlayer { name: "l" type: "PRelu" bottom: "x" top: "x" }')
    with pytest.raises(SphereFaceError, match="register_layer"):
        load(INPUT + '\nlayer { name: "l" type: "Zzzzzz" bottom: "x" top: "x" }')


@pytest.mark.usefixtures("clean_registry")
def test_packages_register_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "outside_layers.py").write_text(
        textwrap.dedent("""
        from sphereface.caffe import Layer, register_layer

        @register_layer("OutsideNegate")
        class OutsideNegate(Layer):
            def forward(self, x):
                return -x

        @register_layer("Threshold")
        class Mine(Layer):
            pass
        """)
    )
    info = tmp_path / "outside_layers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-layers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sphereface.layers]\nbroken = outside_missing\noutside = outside_layers\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    registry._load_entry_points.cache_clear()
    text = INPUT + 'layer { name: "n" type: "OutsideNegate" bottom: "x" top: "y" }'
    with pytest.warns(UserWarning, match="outside") as warned:
        net = load(text)
    assert {str(warning.message).partition(" from now on")[0] for warning in warned} == {
        "entry point broken = outside_missing registers no layers "
        "(No module named 'outside_missing')",
        'layer type "Threshold" is outside_layers.Mine',
    }
    assert net(torch.ones(2, 3))["y"].sum() == -6
    assert load(text)(torch.ones(2, 3))["y"].sum() == -6
    registry._load_entry_points.cache_clear()


def test_layers_are_listed_by_pattern():
    losses = list_layers("*Loss")
    assert {"SoftmaxWithLoss", "ContrastiveLoss", "EuclideanLoss"} <= set(losses)
    assert all(name.endswith("Loss") for name in losses)
    assert list_layers("MarginInnerProduct") == ["MarginInnerProduct"]
    assert list_layers("margin*") == []
    assert len(list_layers()) > 70


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("RegionLoss", "forks define darknet's older losses"),
        ("MultiStageMeanfield", "permutohedral lattice"),
        ("DiceCoefLoss", "forks of this name compute different things"),
        ("Nms", "end the net before it"),
        ("MatWrite", "gives any blob"),
        ("CustomData", "give the net its batches"),
        ("ScaleRoute", "a single fork defines it"),
        ("ROIAlign", "forks of this name compute different things; a layer of your own"),
    ],
)
def test_types_that_are_left_out_say_why(name, why):
    with pytest.raises(SphereFaceError, match=f'"{name}", left out on purpose: .*{why}'):
        registry.layer_class(name)


def test_no_type_is_left_out_and_there():
    assert not set(registry.LEFT_OUT) & set(list_layers())
