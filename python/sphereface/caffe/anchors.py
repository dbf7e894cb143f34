"""YOLO's maps: what a cell and an anchor predict, and the boxes that it means.

Source: yolov3_layer.cpp of MobileNet-YOLO's Caffe fork (Redmon and Farhadi, 2018, section 2.1). A
map is (N, anchors (5 + classes), H, W): x and y in the cell, logarithms of width and height in
sizes of the anchor, the presence of an object, and the classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["anchor_maps", "anchored_boxes"]


def anchor_maps(x: Tensor, anchors: int, classes: int) -> Tensor:
    """Return the map as (N, anchors, 5 + classes, H, W), after the sigmoids."""
    values = x.unflatten(1, (anchors, 5 + classes))
    head, size, tail = values.split([2, 2, 1 + classes], 2)
    return torch.cat([head.sigmoid(), size, tail.sigmoid()], 2)


def anchored_boxes(found: Tensor, anchors: Sequence[tuple[float, float]], scale: float) -> Tensor:
    """Return centres and sizes, (N, anchors, 4, H, W), in shares of the image.

    Parameters
    ----------
    found : Tensor
        What `anchor_maps` returns.
    anchors : sequence of (width, height)
        In pixels.
    scale : float
        Pixels of a cell.
    """
    height, width = found.shape[3:]
    column = torch.arange(width, device=found.device, dtype=found.dtype)
    row = torch.arange(height, device=found.device, dtype=found.dtype)[:, None]
    size = found.new_tensor(list(anchors))[:, :, None, None]
    x = (found[:, :, 0] + column) / width
    y = (found[:, :, 1] + row) / height
    w = found[:, :, 2].exp() * size[:, 0] / (width * scale)
    h = found[:, :, 3].exp() * size[:, 1] / (height * scale)
    return torch.stack([x, y, w, h], 2)
