from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from matplotlib import image

from sphereface.caffe import Net, load
from sphereface.caffe.load import load_graph
from sphereface.errors import SphereFaceError
from sphereface.inspection import draw
from sphereface.inspection.draw import net_picture
from sphereface.resources import prototxt_path


def packaged(name: str) -> Net:
    return Net(load_graph(prototxt_path(name)), fill=False)


def names(picture) -> list[list[str]]:
    """Return the first line of every stripe, box by box."""
    return [[stripe.lines[0].split()[0] for stripe in box.stripes] for box in picture.boxes]


def test_sphereface_20():
    picture = net_picture(packaged("sphereface_20_deploy"))
    boxes = names(picture)
    assert boxes[:3] == [["input"], ["conv1_1", "relu1_1"], ["conv1_2", "relu1_2"]]
    assert boxes[-2:] == [["fc5"], ["fc5"]]  # the layer and the output
    # input, 20 convolutions, 8 sums, fc5 and the output
    assert len(boxes) == 1 + 20 + 8 + 1 + 1
    # a chain of all boxes, and a skip around every unit
    assert len(picture.routes) == len(boxes) - 1 + 8
    assert sum(len(route) == 6 for route in picture.routes) == 8
    lines = {line for box in picture.boxes for stripe in box.stripes for line in stripe.lines}
    assert "Convolution 3×3 stride 2 pad 1 → 512" in lines
    assert {"Convolution 3×3 pad 1 → 512", "Eltwise SUM", "InnerProduct → 512"} <= lines
    labels = [label.text for label in picture.labels]
    assert labels[0] == "SpherefaceNet-20"
    assert labels[1:4] == ["data 1×3×112×96", "1×64×56×48", "1×64×56×48"]
    assert labels[-1] == "1×512"


def test_everything_is_inside():
    for name in ("sphereface_20_deploy", "det3"):
        picture = net_picture(packaged(name))
        for box in picture.boxes:
            assert box.x > 0
            assert box.x + box.width < picture.width
            assert box.y > 0
            assert box.y + box.height < picture.height


def test_in_place_layers_are_stripes_unless_others_read_the_blob_before():
    text = """
      input: "x" input_shape {{ dim: 1 dim: 4 }}
      layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
        inner_product_param {{ num_output: 4 }} }}
      {before}
      layer {{ name: "relu" type: "ReLU" bottom: "fc" top: "fc" }}
      layer {{ name: "drop" type: "Dropout" bottom: "fc" top: "fc" }}
      layer {{ name: "copy" type: "TanH" bottom: "fc" top: "copy" }}"""
    assert ["fc", "relu", "drop"] in names(net_picture(load(text.format(before=""))))
    before = 'layer { name: "early" type: "TanH" bottom: "fc" top: "early" }'
    boxes = names(net_picture(load(text.format(before=before))))
    assert ["fc"] in boxes
    assert ["relu", "drop"] in boxes


def test_blobs_of_a_layer_with_several_are_labelled_by_name():
    net = load("""
      input: "x" input_shape { dim: 1 dim: 6 }
      layer { name: "cut" type: "Slice" bottom: "x" top: "left" top: "right"
        slice_param { axis: 1 slice_point: 2 } }
      layer { name: "a" type: "TanH" bottom: "left" top: "a" }
      layer { name: "b" type: "TanH" bottom: "right" top: "b" }""")
    labels = {label.text for label in net_picture(net).labels}
    assert {"left 1×2", "right 1×4", "1×2", "1×4"} <= labels


def test_svg(tmp_path):
    path = tmp_path / "net.svg"
    net = load("""
      name: "a < b & c"
      input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
      layer { name: "conv&<1>" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 4 kernel_size: 3 } }
      layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }""")
    draw(net, path)
    root = ET.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert {"a < b & c", "conv&<1>", "Convolution 3×3 → 4", "relu  ReLU"} <= set(texts)
    assert len(list(root.iter(f"{space}polygon"))) == 2
    width, height = float(root.get("width")), float(root.get("height"))
    for rect in root.iter(f"{space}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width")) <= width
        assert float(rect.get("y", 0)) + float(rect.get("height")) <= height


def test_png_has_the_colours_where_the_boxes_are(tmp_path):
    path, net = tmp_path / "net.png", packaged("det1")
    draw(net, path)
    pixels, picture = image.imread(path), net_picture(net)
    scale = pixels.shape[1] / picture.width
    assert scale == pytest.approx(2, rel=0.01)
    for box in picture.boxes:
        y = box.y
        for stripe in box.stripes:
            if stripe.colour != "none":
                row, column = round(scale * (y + 4)), round(scale * (box.x + 6))
                expected = [int(stripe.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
                assert pixels[row, column, :3] == pytest.approx(expected, abs=0.01)
            y += stripe.height


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(SphereFaceError, match=r"\.svg or \.png"):
        draw(packaged("det1"), tmp_path / "net.gif")
    assert not list(tmp_path.iterdir())
