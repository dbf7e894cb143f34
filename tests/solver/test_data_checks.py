from __future__ import annotations

import cv2
import numpy as np
import pytest

from sphereface.caffe import DataOptions, open_net
from sphereface.data import ImageData
from sphereface.errors import SphereFaceError
from sphereface.solver.data_checks import data_warnings

NET = """
layer {{ name: "data" type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }}
  image_data_param {{ source: "list.txt" batch_size: 2 }} }}
{between}
layer {{ name: "conv" type: "Convolution" bottom: "{bottom}" top: "conv"
  convolution_param {{ num_output: 2 kernel_size: 3 }} }}
layer {{ name: "fc" type: "{head}" bottom: "conv" {label} top: "fc" {options} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
SOFTMAX = {"head": "InnerProduct", "label": "", "options": "inner_product_param { num_output: 2 }"}
MARGIN = {
    "head": "MarginInnerProduct",
    "label": 'bottom: "label"',
    "options": "margin_inner_product_param { num_output: 2 }",
}
POWER = (
    'layer { name: "scaled" type: "Power" bottom: "data" top: "scaled"'
    " power_param { scale: 0.0078125 } }"
)


@pytest.fixture
def opened(tmp_path, monkeypatch, rng):
    """Return a function that opens a net on four images of two classes."""
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        cv2.imwrite(f"{index}.png", rng.integers(0, 256, (6, 6, 3), np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(4)))

    def build(head=SOFTMAX, transform="", between="", skip=False):
        bottom = "scaled" if between else "data"
        text = NET.format(transform=transform, between=between, bottom=bottom, **head)
        return open_net(text, phase="TRAIN", data=DataOptions(0, skip, seed=1))

    return build


@pytest.mark.parametrize(
    ("head", "transform", "between", "noticed"),
    [
        (SOFTMAX, "", "", True),
        (MARGIN, "", "", True),
        (MARGIN, "mean_value: 127.5", "", True),
        # As nets of the ImageNet age are trained.
        (SOFTMAX, "mean_value: 127.5", "", False),
        (MARGIN, "mean_value: 127.5 scale: 0.0078125", "", False),
        (SOFTMAX, "scale: 0.00390625", "", False),
        (MARGIN, "", POWER, False),
    ],
)
def test_unscaled_pixels(opened, head, transform, between, noticed):
    with opened(head, transform, between) as net:
        warnings = data_warnings(net.net, net.source)
        assert len(warnings) == noticed
        if noticed:
            image = net.source.next_batch()["data"][0]
            assert f"as {image.min():g} .. {image.max():g};" in warnings[0]
            assert 'layer "data" (ImageData)' in warnings[0]
            assert "mean_value: 127.5 scale: 0.0078125" in warnings[0]


def test_looking_moves_nothing(opened):
    with opened() as looked, opened() as other:
        data_warnings(looked.net, looked.source)
        assert looked.source.state() == other.source.state()
        np.testing.assert_array_equal(
            looked.source.next_batch()["data"], other.source.next_batch()["data"]
        )


def test_missing_images_are_found_before_they_are_read(opened, tmp_path):
    for index in (2, 3):
        (tmp_path / f"{index}.png").unlink()
    with (
        opened() as net,
        pytest.raises(SphereFaceError, match=r"list.txt:3: 2.png: 2 of 4 images cannot be opened"),
    ):
        data_warnings(net.net, net.source)
    with opened(transform="scale: 0.001", skip=True) as net:
        (warning,) = data_warnings(net.net, net.source)
        assert "2 of 4 images" in warning


def test_of_a_long_list_a_part_is_looked_at(opened, monkeypatch, capsys):
    with opened() as net:
        (member,) = net.source.members.values()
        assert isinstance(member, ImageData)
        looked = []
        monkeypatch.setattr("os.access", lambda path, mode: looked.append(path) or True)
        member.check_files(limit=3)
        assert looked == ["0.png", "2.png"]
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sphereface.data.image_data._MANY", 3)
        member.check_files()
        assert "looking for images: 4/4" in capsys.readouterr().err


def test_other_sources_are_left_alone():
    net = open_net('layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape {} } }')
    assert data_warnings(net.net, net.source) == []
