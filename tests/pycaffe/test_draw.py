from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from google.protobuf import text_format
from matplotlib import image

import sphereface.pycaffe.draw
from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe.proto import caffe_pb2

SVG = "{http://www.w3.org/2000/svg}"
BOTH_PHASES = """
name: "both"
layer { name: "train" type: "Data" top: "x" top: "label" include { phase: TRAIN } }
layer { name: "test" type: "Data" top: "x" top: "label" include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 7 }
        param { lr_mult: 1 } param { lr_mult: 2 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "odd" type: "NobodyKnows" bottom: "y" top: "z" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "z" bottom: "label" top: "loss"
        exclude { phase: TEST } }
"""


def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def drawn(*args, **options):
    root = ET.fromstring(caffe.draw.draw_net(*args, ext="svg", **options))
    words = [(text.text or "").strip() for text in root.iter(f"{SVG}text")]
    kinds = [group.get("class") for group in root.iter(f"{SVG}g")]
    return words, kinds.count("node"), kinds.count("edge"), root


def test_a_net_of_both_phases():
    words, boxes, arrows, _ = drawn(parsed(BOTH_PHASES), "LR")
    assert {"both", "train", "test", "conv", "relu", "odd", "NobodyKnows", "loss"} <= set(words)
    assert "Convolution → 7" in words
    assert (boxes, arrows) == (5, 6)  # relu is in conv's box; x and label come from two
    for phase, left_out, expected in ((caffe.TRAIN, "test", (4, 4)), (caffe.TEST, "train", (3, 2))):
        words, *counts, _ = drawn(parsed(BOTH_PHASES), "LR", phase=phase)
        assert left_out not in words
        assert tuple(counts) == expected


def test_multipliers():
    words, *_ = drawn(parsed(BOTH_PHASES), "TB", display_lrm=True)
    assert "Convolution → 7 lr_mult 1, 2" in words


@pytest.mark.parametrize(
    ("rankdir", "axis", "sign"), [("LR", 0, 1), ("RL", 0, -1), ("TB", 1, 1), ("BT", 1, -1)]
)
def test_directions(rankdir, axis, sign):
    text = 'layer { name: "%s" type: "ReLU" bottom: "%s" top: "%s" }'
    net = parsed("".join(text % tuple(names) for names in ("bab", "cbc", "dcd")))
    *_, root = drawn(net, rankdir)
    places = {
        word.text: float(word.get("xy"[axis]))
        for word in root.iter(f"{SVG}text")
        if word.text in "bcd"
    }
    assert np.sign(places["d"] - places["c"]) == np.sign(places["c"] - places["b"]) == sign


def test_old_formats_and_files(tmp_path):
    old = parsed("""
        layers { name: "data" type: DUMMY_DATA top: "x" }
        layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" }
    """)
    words, boxes, arrows, _ = drawn(old, "LR")
    assert {"DummyData", "ip"} <= set(words)
    assert (boxes, arrows) == (2, 1)
    caffe.draw.draw_net_to_file(old, str(tmp_path / "net.png"))
    pixels = image.imread(tmp_path / "net.png")
    assert pixels.shape[1] > pixels.shape[0] > 50  # left to right
    assert caffe.draw.draw_net(old, "LR")[:4] == b"\x89PNG"
    assert b"digraph" in caffe.draw.draw_net(old, "LR", "raw")


def test_what_cannot_be_drawn(tmp_path):
    net = parsed(BOTH_PHASES)
    with pytest.raises(SphereFaceError, match='rankdir "XY"; expected TB, BT, LR, RL'):
        caffe.draw.draw_net(net, "XY")
    with pytest.raises(SphereFaceError, match='no pictures of type ".xyz"'):
        caffe.draw.draw_net_to_file(net, tmp_path / "net.xyz")
    assert not list(tmp_path.iterdir())
    net.layer[0].exclude.add(phase=caffe.TEST)
    with pytest.raises(SphereFaceError, match='layer "train".*both include and exclude'):
        sphereface.pycaffe.draw.draw_net(net, "LR", phase=caffe.TEST)
