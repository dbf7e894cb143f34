from __future__ import annotations

import sys

import numpy as np
import pytest

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe.build import open_with_splits

TRIPLE = """
import caffe
import numpy as np


class Triple(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        self.fed = None

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff
"""


def test_phase_level_and_stage_choose_layers(write_net):
    path = write_net("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "train" type: "TanH" bottom: "x" top: "a" include { phase: TRAIN } }
        layer { name: "deep" type: "TanH" bottom: "x" top: "b" include { min_level: 2 } }
        layer { name: "staged" type: "TanH" bottom: "x" top: "c" include { stage: "s" } }
    """)

    def kept(*args):
        names = [layer.name for layer in open_with_splits(path, *args).net.layers]
        return [name for name in names if "split" not in name]

    assert kept(caffe.TRAIN) == ["x", "train"]
    assert kept(caffe.TEST, 2) == ["x", "deep"]
    assert kept(caffe.TEST, 0, ["s"]) == ["x", "staged"]


def test_errors_have_the_lines_of_the_file(write_net):
    path = write_net("""
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
layer { name: "a" type: "TanH" bottom: "x" top: "a" }
layer { name: "b" type: "TanH" bottom: "x" top: "b" }
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" }
""")
    with pytest.raises(SphereFaceError, match=r'net.prototxt:5: layer "c" \(InnerProduct\)'):
        open_with_splits(path, caffe.TEST)


def test_in_place_with_a_second_reader_is_refused_as_in_caffe(write_net):
    path = write_net("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "a" type: "TanH" bottom: "x" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x" top: "x" }
    """)
    with pytest.raises(SphereFaceError, match='"x" is produced by multiple sources'):
        open_with_splits(path, caffe.TEST)


def test_python_layers_are_imported_and_find_caffe(write_net, tmp_path, monkeypatch):
    (tmp_path / "triple_layers.py").write_text(TRIPLE)
    monkeypatch.syspath_prepend(tmp_path)
    path = write_net("""force_backward: true
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
        layer { name: "py" type: "Python" bottom: "x" top: "y"
          python_param { module: "triple_layers" layer: "Triple" param_str: "3" } }
    """)
    try:
        net = caffe.Net(path, caffe.TRAIN)
        assert "caffe" not in sys.modules
        instance = net.layers[1]
        assert type(instance).__name__ == "Triple"
        assert isinstance(instance, caffe.Layer)
        assert net.layer_dict["py"] is instance
        x = np.arange(6, dtype="f").reshape(2, 3)
        np.testing.assert_array_equal(net.forward(x=x)["y"], 3 * x)
        np.testing.assert_array_equal(net.backward(y=x + 1)["x"], 3 * (x + 1))
        instance.factor = 5  # py-faster-rcnn talks to its layers so
        np.testing.assert_array_equal(net.forward()["y"], 5 * x)
        net.blobs["x"].reshape(1, 7)
        assert net.forward()["y"].shape == (1, 7)
    finally:
        sys.modules.pop("triple_layers", None)
