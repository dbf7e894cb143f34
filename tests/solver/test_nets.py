from __future__ import annotations

from typing import ClassVar

import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.config import NetSource
from sphereface.solver.nets import NetBuilder

NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 1 weight_filler { type: "constant" value: 2 } } }
"""


class Source:
    shapes: ClassVar = {"data": (2, 3, 4, 5), "label": (2,)}


def test_a_source_tells_the_shapes(folder):
    (folder / "net.prototxt").write_text(NET)
    opened = []

    def open_source(graph, phase):
        opened.append((graph.nodes[0].param.image_data_param.source, phase))
        return Source()

    builder = NetBuilder(open_source)
    net, source = builder.train_net(NetSource(folder / "net.prototxt", "TRAIN"))
    assert isinstance(source, Source)
    assert net.blob_shapes["data"] == (2, 3, 4, 5)
    assert net.training
    assert net.layer("fc").weight.eq(2).all()
    net, _ = builder.test_net(NetSource(folder / "net.prototxt", "TEST"))
    assert not net.training
    assert not net.layer("fc").weight.any()
    assert opened == [("list.txt", "TRAIN"), ("list.txt", "TEST")]


def test_without_a_source_the_file_must_tell(folder):
    (folder / "net.prototxt").write_text(NET)
    with pytest.raises(SphereFaceError, match="does not tell the shape"):
        NetBuilder().train_net(NetSource(folder / "net.prototxt", "TRAIN"))
