from __future__ import annotations

import json

import pytest

from sphereface.caffe import Net, load
from sphereface.caffe.load import load_graph
from sphereface.errors import SphereFaceError
from sphereface.inspection import summarize
from sphereface.resources import prototxt_path

# Parameters and MACs of the deploy nets, and layers without data, as published facts of the nets.
SPHEREFACE = {
    "4": (12_562_496, 164_290_560, 9),
    "6": (13_743_168, 362_471_424, 14),
    "10": (15_219_264, 758_833_152, 24),
    "20": (22_670_656, 1_749_737_472, 49),
    "36": (32_778_816, 3_335_184_384, 89),
    "64": (47_905_088, 5_911_535_616, 154),
    "64_paper": (48_200_512, 6_109_716_480, 159),
}
# Convolutions, and channels of all of them, of the nets with BatchNorm and Scale before each PReLU.
NORMALISED = {"4": (4, 960), "6": (6, 960 + 2 * 256), "10": (10, 960 + 2 * 128 + 4 * 256)}
for _depth, (_convolutions, _channels) in NORMALISED.items():
    _params, _macs, _layers = SPHEREFACE[_depth]
    # A mean, a variance, a gain and a bias a channel, and a count of batches a layer.
    SPHEREFACE[f"{_depth}_bn"] = (
        _params + 4 * _channels + _convolutions,
        _macs,
        _layers + 2 * _convolutions,
    )


def packaged(name: str, **options) -> Net:
    phase = options.pop("phase", "TEST")
    return Net(load_graph(prototxt_path(name), phase), phase=phase, fill=False, **options)


@pytest.mark.parametrize("depth", SPHEREFACE)
def test_sphereface_totals(depth):
    summary = summarize(packaged(f"sphereface_{depth}_deploy"))
    params, macs, layers = SPHEREFACE[depth]
    assert (summary.params, summary.macs, len(summary.layers) - 1) == (params, macs, layers)
    assert summary.macs_per_image == macs


def test_sphereface_20_layer_by_layer():
    """Every row from the definition of the net, computed here."""
    rows = {row.name: row for row in summarize(packaged("sphereface_20_deploy")).layers}
    channels, height, width, total = 3, 112, 96, 0
    for stage, (outputs, units) in enumerate(
        zip((64, 128, 256, 512), (1, 2, 4, 1), strict=True), start=1
    ):
        height, width = height // 2, width // 2
        for index in range(1, 2 * units + 2):
            conv, relu = rows[f"conv{stage}_{index}"], rows[f"relu{stage}_{index}"]
            inputs = channels if index == 1 else outputs
            assert conv.shapes == ((1, outputs, height, width),)
            assert conv.params == outputs * inputs * 9 + outputs
            assert conv.frozen == (0 if index == 1 else outputs)
            assert conv.macs == outputs * height * width * inputs * 9
            assert conv.activation_bytes == 4 * outputs * height * width
            assert (relu.params, relu.frozen, relu.macs) == (outputs, 0, 0)
            total += conv.params + relu.params
        channels = outputs
    fc5 = rows["fc5"]
    assert fc5.bottoms == ("res4_3",)
    assert fc5.shapes == ((1, 512),)
    assert fc5.macs == 512 * 512 * 7 * 6
    assert total + fc5.params == SPHEREFACE["20"][0]


def test_batch_scales_macs_and_activations():
    net = packaged("sphereface_4_deploy")
    one, eight = summarize(net), summarize(net, batch=8)
    assert (one.batch, eight.batch) == (1, 8)
    assert eight.macs == 8 * one.macs
    assert eight.macs_per_image == one.macs
    assert eight.activation_bytes == 8 * one.activation_bytes
    assert eight.peak_bytes == 8 * one.peak_bytes
    assert eight.params == one.params


def test_training_net_counts_margin_products():
    net = packaged("sphereface_20_train", phase="TRAIN", input_shapes={"data": (256, 3, 112, 96)})
    summary = summarize(net)
    fc6 = next(row for row in summary.layers if row.name == "fc6")
    assert (fc6.params, fc6.macs) == (512 * 10572, 256 * 512 * 10572)
    assert fc6.shapes[0] == (256, 10572)
    assert summary.params == SPHEREFACE["20"][0] + 512 * 10572
    assert (summary.phase, summary.batch) == ("TRAIN", 256)


def test_shared_blobs_count_once():
    net = load("""
        input: "x" input_shape { dim: 2 dim: 6 }
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" lr_mult: 0 }
          inner_product_param { num_output: 6 } }
        layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" lr_mult: 0 }
          inner_product_param { num_output: 6 } }""")
    summary = summarize(net)
    _, a, b = summary.layers
    assert (a.params, a.frozen) == (36 + 6, 36)
    assert (b.params, b.frozen) == (6, 0)
    assert (summary.params, summary.frozen) == (48, 36)
    assert a.macs == b.macs == 2 * 36


def test_peak_follows_the_last_reader():
    # x is alive until the sum; at its time x, c and the sum are there, 3 blobs of 10 floats.
    net = load("""
        input: "x" input_shape { dim: 1 dim: 10 }
        layer { name: "a" type: "TanH" bottom: "x" top: "a" }
        layer { name: "b" type: "TanH" bottom: "a" top: "b" }
        layer { name: "s" type: "Eltwise" bottom: "x" bottom: "b" top: "s" }
        layer { name: "t" type: "TanH" bottom: "s" top: "t" }""")
    summary = summarize(net)
    assert summary.peak_bytes == 3 * 40
    assert summary.activation_bytes == 5 * 40


def test_table_and_json():
    summary = summarize(packaged("sphereface_20_deploy"))
    lines = str(summary).splitlines()
    fc5 = next(line for line in lines if line.startswith("fc5 "))
    assert fc5.split() == [
        "fc5", "InnerProduct", "res4_3", "1x512", "11,010,560", "-", "11,010,048", "2.0", "KiB",
    ]  # fmt: skip
    assert any("22,670,656" in line and "3,712 frozen" in line for line in lines)
    again = json.loads(json.dumps(summary.to_dict()))
    assert again["macs_per_image"] == 1_749_737_472
    assert again["layers"][1]["name"] == "conv1_1"
    assert again["layers"][1]["shapes"] == [[1, 64, 56, 48]]


def test_impossible_shapes_are_an_error():
    with pytest.raises(SphereFaceError, match="conv1"):
        packaged("det1", input_shapes={"data": (1, 3, 2, 2)})
