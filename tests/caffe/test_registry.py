from __future__ import annotations

import sys
import textwrap

import pytest
import torch

from sphereface.caffe import Layer, list_layers, load, register_layer, registry
from sphereface.errors import SphereFaceError

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
def test_a_type_is_registered_once():
    with pytest.raises(SphereFaceError, match='"PReLU" is already registered; expected a name'):

        @register_layer("PReLU")
        class Mine(Layer):
            pass


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
        """)
    )
    info = tmp_path / "outside_layers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-layers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sphereface.layers]\noutside = outside_layers\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    registry._load_entry_points.cache_clear()
    net = load(INPUT + 'layer { name: "n" type: "OutsideNegate" bottom: "x" top: "y" }')
    assert net(torch.ones(2, 3))["y"].sum() == -6
    registry._load_entry_points.cache_clear()


def test_layers_are_listed_by_pattern():
    losses = list_layers("*Loss")
    assert {"SoftmaxWithLoss", "ContrastiveLoss", "EuclideanLoss"} <= set(losses)
    assert all(name.endswith("Loss") for name in losses)
    assert list_layers("MarginInnerProduct") == ["MarginInnerProduct"]
    assert list_layers("margin*") == []
    assert len(list_layers()) > 70
