from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import pytest

from sphereface.caffe import DataOptions, open_net
from sphereface.caffe.load import load_file, load_graph
from sphereface.errors import SphereFaceError
from sphereface.weights import write_caffemodel_h5

NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {
        num_output: 1 bias_term: false weight_filler { type: "constant" value: 2 } } }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


@pytest.fixture
def images(folder, rng):
    """Three images of 4 x 5 in a list."""
    stored = rng.integers(0, 256, (3, 4, 5, 3), np.uint8)
    for index, image in enumerate(stored):
        cv2.imwrite(f"{index}.png", image)
    (folder / "list.txt").write_text("".join(f"{index}.png {index}\n" for index in range(3)))
    return stored


class Own:
    """A source of a program's own."""

    shapes: ClassVar = {"data": (2, 3, 4, 5), "label": (2,)}
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_net_with_its_data(images):
    with open_net("net.prototxt", data=DataOptions(workers=0)) as opened:
        assert opened.net.blob_shapes["data"] == (2, 3, 4, 5)
        assert opened.net.layer("fc").weight.eq(2).all()
        assert not opened.net.training
        batch = opened.source.next_batch()
    np.testing.assert_array_equal(batch["data"], images[:2].transpose(0, 3, 1, 2))
    assert batch["label"].tolist() == [0, 1]


def test_a_programs_own_source():
    asked = []

    def data(graph, phase):
        asked.append((graph.nodes[0].param.image_data_param.source, phase))
        return Own()

    opened = open_net("net.prototxt", phase="TRAIN", data=data, fill=False)
    assert isinstance(opened.source, Own)
    assert opened.net.blob_shapes["data"] == (2, 3, 4, 5)
    assert opened.net.training
    assert not opened.net.layer("fc").weight.any()
    assert asked == [("list.txt", "TRAIN")]
    opened.close()
    assert opened.source.closed


def test_without_data_the_file_or_the_caller_must_tell():
    with pytest.raises(SphereFaceError, match="list.txt"):
        open_net("net.prototxt")
    opened = open_net("net.prototxt", input_shapes={"data": (7, 3, 2, 2)})
    assert opened.source is None
    assert opened.net.blob_shapes["label"] == (7,)
    opened.close()


def test_sizes_of_the_caller_win_and_weights_are_copied(images):
    write_caffemodel_h5("w.h5", {"fc": [np.arange(60, dtype="f").reshape(1, 60)]})
    with open_net(
        "net.prototxt",
        weights="w.h5",
        input_shapes={"data": (9, 3, 4, 5)},
        data=DataOptions(workers=0),
    ) as opened:
        assert opened.net.blob_shapes["data"] == (9, 3, 4, 5)
        assert opened.net.layer("fc").weight.flatten().tolist() == list(range(60))


def test_what_was_read_is_not_read_again(folder, images):
    file, graph = load_file("net.prototxt"), load_graph("net.prototxt", "TRAIN")
    (folder / "net.prototxt").unlink()
    for phase in ("TRAIN", "TEST"):
        assert open_net(file, phase=phase).net.phase == phase
    assert open_net(graph, phase="TRAIN").net.graph is graph
    message = load_file(NET).net
    assert open_net(message).net.blob_shapes["data"] == (2, 3, 4, 5)


def test_data_are_closed_when_the_net_cannot_be_built(folder):
    opened = []

    def data(graph, phase):
        opened.append(Own())
        return opened[0]

    (folder / "net.prototxt").write_text(NET.replace("num_output: 1", "num_output: 0"))
    with pytest.raises(SphereFaceError, match="num_output"):
        open_net("net.prototxt", data=data)
    assert opened[0].closed
