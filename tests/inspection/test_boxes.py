from __future__ import annotations

from sphereface.caffe import Net, load
from sphereface.caffe.load import load_graph
from sphereface.inspection.boxes import net_diagram
from sphereface.resources import prototxt_path


def packaged(name: str) -> Net:
    return Net(load_graph(prototxt_path(name)), fill=False)


def names(net: Net) -> list[list[str]]:
    """Return the name of every stripe, box by box."""
    return [[stripe.name for stripe in box.stripes] for box in net_diagram(net).boxes]


def test_sphereface_20():
    diagram = net_diagram(packaged("sphereface_20_deploy"))
    assert diagram.name == "SpherefaceNet-20"
    boxes = [[stripe.name for stripe in box.stripes] for box in diagram.boxes]
    assert boxes[:3] == [["input"], ["conv1_1", "relu1_1"], ["conv1_2", "relu1_2"]]
    assert boxes[-1] == ["fc5"]
    # input, 20 convolutions, 8 sums, fc5
    assert len(boxes) == 1 + 20 + 8 + 1
    # a chain of all boxes, and a skip around every unit
    assert len(diagram.arrows) == len(boxes) - 1 + 8
    assert sorted(arrow.target - arrow.source for arrow in diagram.arrows) == [1] * 29 + [3] * 8
    kinds = {stripe.kind for box in diagram.boxes for stripe in box.stripes}
    assert kinds == {
        "Input", "Convolution 3×3 stride 2 pad 1 → 64", "Convolution 3×3 pad 1 → 64", "PReLU",
        "Convolution 3×3 stride 2 pad 1 → 128", "Convolution 3×3 pad 1 → 128", "Eltwise SUM",
        "Convolution 3×3 stride 2 pad 1 → 256", "Convolution 3×3 pad 1 → 256",
        "Convolution 3×3 stride 2 pad 1 → 512", "Convolution 3×3 pad 1 → 512",
        "InnerProduct → 512",
    }  # fmt: skip
    tops = [(top.name, top.shape) for box in diagram.boxes for top in box.tops]
    assert tops[:2] == [("data", "1×3×112×96"), ("", "1×64×56×48")]
    assert tops[-1] == ("", "1×512")


def test_in_place_layers_are_stripes_unless_others_read_the_blob_before():
    text = """
      input: "x" input_shape {{ dim: 1 dim: 4 }}
      layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
        inner_product_param {{ num_output: 4 }} }}
      {before}
      layer {{ name: "relu" type: "ReLU" bottom: "fc" top: "fc" }}
      layer {{ name: "drop" type: "Dropout" bottom: "fc" top: "fc" }}
      layer {{ name: "copy" type: "TanH" bottom: "fc" top: "copy" }}"""
    assert ["fc", "relu", "drop"] in names(load(text.format(before="")))
    before = 'layer { name: "early" type: "TanH" bottom: "fc" top: "early" }'
    boxes = names(load(text.format(before=before)))
    assert ["fc"] in boxes
    assert ["relu", "drop"] in boxes


def test_arrows_leave_the_top_that_is_read():
    net = load("""
      input: "x" input_shape { dim: 1 dim: 6 }
      layer { name: "cut" type: "Slice" bottom: "x" top: "left" top: "right"
        slice_param { axis: 1 slice_point: 2 } }
      layer { name: "b" type: "TanH" bottom: "right" top: "b" }
      layer { name: "a" type: "TanH" bottom: "left" top: "a" }
      layer { name: "twice" type: "Eltwise" bottom: "b" bottom: "b" top: "twice" }""")
    diagram = net_diagram(net)
    assert [(top.name, top.shape) for top in diagram.boxes[1].tops] == [
        ("left", "1×2"),
        ("right", "1×4"),
    ]
    arrows = [(arrow.source, arrow.port, arrow.target) for arrow in diagram.arrows]
    assert arrows == [(0, 0, 1), (1, 1, 2), (1, 0, 3), (2, 0, 4), (2, 0, 4)]


def test_a_loss_is_a_scalar():
    net = load("""
      input: "x" input_shape { dim: 2 dim: 6 }
      input: "y" input_shape { dim: 2 }
      layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "loss" }""")
    (top,) = net_diagram(net).boxes[-1].tops
    assert (top.name, top.shape) == ("", "scalar")
