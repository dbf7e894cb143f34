from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.caffe.layer import UnknownShapeError
from sphereface.data import open_source
from sphereface.errors import SphereFaceError

TYPES = {
    "BoxData": 'data_param { source: "lmdb" batch_size: 4 side: 13 backend: LMDB }',
    "CPMData": "cpm_transform_param { stride: 8 max_rotate_degree: 40 visualize: false }",
    "DataHeatmap": 'visualise: false heatmap_data_param { source: "train.txt" batchsize: 14 }',
    "DetectionData": 'detection_data_param { source: "train.txt" }',
    "HeatmapData": "",
    "ImageGtData": "image_gt_data_param { field_h: 40 field_w: 40 downsample_rate: 8 }",
}


@pytest.mark.filterwarnings("ignore:.*fields of forks are ignored")
@pytest.mark.parametrize("kind", TYPES)
def test_the_net_builds_and_takes_batches(kind):
    text = (
        f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" top: "more" {TYPES[kind]} }}'
        'layer { name: "p" type: "Power" bottom: "data" top: "y" power_param { scale: 2 } }'
    )
    with pytest.raises(UnknownShapeError, match='layer "d"'):
        load(text)
    shapes = {"data": (2, 3, 8, 8), "label": (2, 5), "more": (1, 6)}
    net = load(text, input_shapes=shapes)
    data = torch.randn(2, 3, 8, 8)
    found = net({"data": data, "label": torch.zeros(2, 5), "more": torch.zeros(1, 6)})
    torch.testing.assert_close(found["y"], 2 * data)
    with pytest.raises(SphereFaceError, match=r"no reader .*its records are of its fork"):
        open_source(net.graph.nodes[0].param)


def test_what_is_read_past_is_told():
    text = f'layer {{ name: "d" type: "DataHeatmap" top: "data" {TYPES["DataHeatmap"]} }}'
    told = r"heatmap_data_param \(a program gives the net these data\)"
    with pytest.warns(UserWarning, match=told), pytest.raises(UnknownShapeError):
        load(text)
