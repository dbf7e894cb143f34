from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib import image

from sphereface.caffe import Net, load
from sphereface.caffe.load import load_graph
from sphereface.errors import SphereFaceError
from sphereface.inspection import draw
from sphereface.inspection.boxes import net_diagram
from sphereface.inspection.fold import fold
from sphereface.resources import prototxt_path

LEGACY = Path(__file__).parents[1] / "caffe" / "legacy"
SVG = "{http://www.w3.org/2000/svg}"
# A prototxt's names may have what XML and Graphviz escape or refuse.
ODD = """
  name: "a < b & c"
  input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
  layer { name: "conv&<1>\\n\\001" type: "Convolution" bottom: "x" top: "y"
    convolution_param { num_output: 4 kernel_size: 3 } }
  layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }"""


def packaged(name: str) -> Net:
    return Net(load_graph(prototxt_path(name)), fill=False)


def drawn(net: Net, path: Path, **options: bool) -> ET.Element:
    draw(net, path, **options)
    return ET.parse(path).getroot()


def texts(element: ET.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def groups(root: ET.Element, kind: str) -> list[ET.Element]:
    return [group for group in root.iter(f"{SVG}g") if group.get("class") == kind]


def outline(node: ET.Element) -> np.ndarray:
    """Return the corners of a box, (lowest x and y, highest x and y)."""
    last = list(node.iter(f"{SVG}polygon"))[-1].get("points", "")
    points = np.array([[float(v) for v in pair.split(",")] for pair in last.split()])
    return np.array([points.min(0), points.max(0)])


def curve(edge: ET.Element, steps: int = 20) -> np.ndarray:
    """Return points on the Bezier curves of an arrow."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", next(edge.iter(f"{SVG}path")).get("d", ""))
    control = np.array(numbers, float).reshape(-1, 2)
    t = np.linspace(0, 1, steps)[:, None]
    pieces = [control[i : i + 4] for i in range(0, len(control) - 1, 3)]
    return np.concatenate([
        (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
        for a, b, c, d in pieces
    ])  # fmt: skip


@pytest.mark.parametrize("name", ["sphereface_20_deploy", "googlenet", "folded"])
def test_boxes_are_apart_and_arrows_pass_none(name, tmp_path):
    # Shapes and names stand inside the boxes: an arrow that enters none crosses no text.
    googlenet = LEGACY / "googlenet_deploy.prototxt"
    net = {
        "googlenet": lambda: Net(load_graph(googlenet), fill=False),
        "folded": lambda: packaged("sphereface_64_deploy"),
    }.get(name, lambda: packaged(name))()
    root = drawn(net, tmp_path / "net.svg", folded=name == "folded")
    diagram = net_diagram(net)
    if name == "folded":
        diagram, _ = fold(diagram)
    boxes = {node.get("id"): outline(node) for node in groups(root, "node")}
    assert set(boxes) == {f"box{index}" for index in range(len(diagram.boxes))}
    inside = {text for node in groups(root, "node") for text in texts(node)}
    assert set(texts(root)) - inside == {diagram.name}
    corners = list(boxes.values())
    for first, (low, high) in enumerate(corners):
        for other_low, other_high in corners[first + 1 :]:
            assert (high <= other_low).any() or (other_high <= low).any()
    edges = groups(root, "edge")
    assert len(edges) == len(diagram.arrows)
    for edge in edges:
        points = curve(edge)
        for low, high in corners:
            assert not ((points > low + 1) & (points < high - 1)).all(1).any()
        # y grows downwards in SVG, as the arrows do.
        assert points[-1, 1] > points[0, 1]
        assert all((after[1] > before[1] - 12) for before, after in pairwise(points))


def test_texts_of_a_box(tmp_path):
    root = drawn(load(ODD), tmp_path / "net.svg")
    assert "a < b & c" in texts(root)
    (box,) = [node for node in groups(root, "node") if node.get("id") == "box1"]
    assert texts(box) == [
        "conv&<1>\ufffd\ufffd", "Convolution 3×3 → 4", "relu \xa0", "ReLU", "y 1×4×6×6"
    ]  # fmt: skip


def test_folded(tmp_path):
    root = drawn(packaged("sphereface_64_deploy"), tmp_path / "net.svg", folded=True)
    assert len(groups(root, "cluster")) == 4
    labels = [text for node in groups(root, "node") for text in texts(node) if " × " in text]
    assert labels == [
        "3 × (conv1_2 … res1_7)",
        "7 × (conv2_2 … res2_15)",
        "16 × (conv3_2 … res3_33)",
        "3 × (conv4_2 … res4_7)",
    ]
    whole = drawn(packaged("sphereface_64_deploy"), tmp_path / "whole.svg")
    height = [float(tree.get("height", "0").removesuffix("pt")) for tree in (root, whole)]
    assert height[0] < height[1] / 4


def test_png_has_the_colours_of_the_layers(tmp_path):
    path, net = tmp_path / "net.png", packaged("det1")
    root = drawn(net, tmp_path / "net.svg")
    draw(net, path)
    pixels = image.imread(path)
    width, height = (float(root.get(side, "0").removesuffix("pt")) for side in ("width", "height"))
    assert pixels.shape[:2] == pytest.approx((2 * height, 2 * width), rel=0.01)
    for box in net_diagram(net).boxes:
        for stripe in box.stripes:
            colour = [int(stripe.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            assert (abs(pixels[:, :, :3] - colour).max(2) < 0.01).sum() > 500


def test_html_is_one_file_with_the_picture_and_its_search(tmp_path):
    path = tmp_path / "net.html"
    draw(load(ODD), path)
    page = path.read_text(encoding="utf-8")
    assert "<title>a &lt; b &amp; c</title>" in page
    assert page.count("<svg") == 1
    assert 'id="search"' in page
    assert "conv&amp;&lt;1&gt;" in page
    # Nothing is loaded from elsewhere; namespaces are names.
    links = set(re.findall(r"https?://[^\"'\s]+", page))
    assert links == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF-"), ("dot", b"digraph")])
def test_other_forms(suffix, start, tmp_path):
    path = tmp_path / f"net.{suffix}"
    draw(packaged("det1"), path)
    assert path.read_bytes().startswith(start)


def test_nothing_is_said_of_fonts(tmp_path, capfd):
    draw(packaged("det1"), tmp_path / "net.svg")
    assert capfd.readouterr().err == ""


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(SphereFaceError, match=r"expected \.svg, \.png, \.pdf, \.html or \.dot"):
        draw(packaged("det1"), tmp_path / "net.gif")
    assert not list(tmp_path.iterdir())
