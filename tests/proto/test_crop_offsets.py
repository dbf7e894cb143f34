from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sphereface.proto.crop_offsets import crop_offset
from sphereface.proto.net_file import net_of_text

LEGACY = Path(__file__).parents[1] / "caffe" / "legacy"
INPUT = 'input: "data" input_dim: [1, 3, 500, 500] '


def window(kind, bottom, top, options, old=False):
    field = "pooling_param" if kind.lower() == "pooling" else "convolution_param"
    name, quote = ("layers", "") if old else ("layer", '"')
    return (
        f'{name} {{ name: "{top}" type: {quote}{kind}{quote} bottom: "{bottom}" top: "{top}"'
        f" {field} {{ {options} }} }}\n"
    )


def crop(bottom="up", options=""):
    bottoms = f'bottom: "{bottom}" bottom: "data"'
    return f'layer {{ name: "crop" type: "Crop" {bottoms} top: "y" {options} }}'


def fcn32s(old=False):
    """In offset 19 of voc-fcn32s/train.prototxt."""
    kinds = (
        ("CONVOLUTION", "POOLING", "DECONVOLUTION")
        if old
        else ("Convolution", "Pooling", "Deconvolution")
    )
    text = INPUT + window(kinds[0], "data", "c1", "num_output: 1 kernel_size: 3 pad: 100", old)
    blob = "c1"
    for n in range(5):
        text += window(kinds[1], blob, f"p{n}", "kernel_size: 2 stride: 2", old)
        blob = f"p{n}"
    text += window(kinds[0], blob, "fc6", "num_output: 1 kernel_size: 7", old)
    return text + window(kinds[2], "fc6", "up", "num_output: 1 kernel_size: 64 stride: 32", old)


HED = (
    INPUT
    + window("Convolution", "data", "c1", "num_output: 1 kernel_size: 3 pad: 35")
    + 'layer { name: "r" type: "ReLU" bottom: "c1" top: "c1" }\n'
    + window("Convolution", "c1", "c2", "num_output: 1 kernel_size: 3 pad: 1")
    + window("Pooling", "c2", "p1", "kernel_size: 2 stride: 2")
    + window("Deconvolution", "p1", "up", "num_output: 1 kernel_size: 4 stride: 2")
)


def offset_of(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = net_of_text(text, "net").net.layer
    return crop_offset(layers, len(layers) - 1)


def test_published_offsets():
    assert offset_of(fcn32s() + crop()) == (19, 19)
    assert offset_of(HED + crop("c2")) == (34, 34)
    assert offset_of(HED + crop()) == (35, 35)


@pytest.mark.parametrize("name", ["fcn_8s", "fcn_alexnet_train"])
def test_offsets_of_fcns_own_nets(name):
    layers = net_of_text((LEGACY / f"{name}.prototxt").read_text(), name).net.layer
    crops = [index for index, layer in enumerate(layers) if layer.type == "Crop"]
    assert crops
    for index in crops:
        (given,) = layers[index].crop_param.offset
        assert crop_offset(layers, index) == (given, given)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("pad: 35", "pad_h: 35 pad_w: 21"), (35, 21)),
        (("pad: 35", "pad: 35 dilation: 2"), (34, 34)),
        (("pad: 35", "pad: 0"), (0, 0)),
        (("kernel_size: 4 ", "kernel_size: 3 "), None),  # half a pixel
        (("kernel_size: 4 stride: 2", "kernel_size: 4 stride: 4"), None),  # another scale
        (('bottom: "data"', 'bottom: "other"'), None),
        (("ReLU", "Softmax"), None),
        (("kernel_size: 2 stride: 2", "global_pooling: true"), None),
    ],
)
def test_what_moves_them(change, expected):
    assert change[0] in HED
    assert offset_of(HED.replace(*change, 1) + crop()) == expected


def test_a_crop_between_counts():
    cut = 'layer { name: "m" type: "Crop" bottom: "c1" bottom: "p1" top: "m" crop_param {'
    assert offset_of(HED + cut + " offset: 4 } }" + crop("m")) == (30, 30)
    assert offset_of(HED + cut + " offset: [4, 6] } }" + crop("m")) == (30, 28)


def test_old_crops_are_placed():
    text = (
        fcn32s(old=True) + 'layers { name: "crop" type: CROP bottom: "up" bottom: "data" top: "y" }'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = net_of_text(text, "net")
    assert list(file.net.layer[-1].crop_param.offset) == [19, 19]
    assert any("aligned by coordinates" in change for change in file.changes)
    given = text.replace('top: "y"', 'top: "y" crop_param { offset: 7 }')
    assert list(net_of_text(given, "net").net.layer[-1].crop_param.offset) == [7]


def test_crops_of_today_start_at_zero_and_say_so():
    with pytest.warns(UserWarning, match=r'HED.s\) align "crop" by 35: give crop_param') as told:
        file = net_of_text(HED + crop(), "net")
    assert len(told) == 1
    assert not file.net.layer[-1].HasField("crop_param")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net_of_text(HED + crop(options="crop_param { offset: 0 }"), "net")
        net_of_text(HED.replace("pad: 35", "pad: 0") + crop(), "net")
