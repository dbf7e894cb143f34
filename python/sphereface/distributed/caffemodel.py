"""The weight of a sharded loss to and from one caffemodel.

Source: Net::ToProto and Net::CopyTrainedLayersFrom. What differs: the blob is written and read a
few MiB at a time, so that no process holds more than its own rows and a chunk.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from sphereface.distributed.ranks import Ranks
from sphereface.distributed.row_service import RowService
from sphereface.distributed.sharded_margin_loss import ShardedMarginLoss
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.weights import copy_blob, read_caffemodel, shape_equals, write_caffemodel

__all__ = ["load_caffemodel", "save_caffemodel"]


def save_caffemodel(
    loss: ShardedMarginLoss, path: str | os.PathLike[str], layer: str = "fc6"
) -> None:
    """Write a caffemodel whose one layer has the whole weight, float32; every process calls it.

    Parameters
    ----------
    loss : ShardedMarginLoss
        Whose weight.
    path : path-like
        File to write, on process 0.
    layer : str
        Name of the layer, a MarginInnerProduct.

    Raises
    ------
    SphereFaceError
        On process 0: the weight is larger than a caffemodel can be.
    """
    ranks = loss.ranks
    if ranks.ranks > 1 and dist.get_backend(ranks.group) != "gloo":
        members = dist.get_process_group_ranks(ranks.group or dist.group.WORLD)
        ranks = Ranks(dist.new_group(members, backend="gloo"))
    weight = loss.weight.detach()
    with RowService(ranks, [(weight, loss.classes)]) as service:
        if ranks.rank == 0:
            header = schema.message("LayerParameter")(name=layer, type="MarginInnerProduct")
            write_caffemodel(path, "", [(schema.encode(header), [service.whole(weight)])])


@torch.no_grad()
def load_caffemodel(
    loss: ShardedMarginLoss, path: str | os.PathLike[str], layer: str = "fc6"
) -> None:
    """Read this process's rows of a layer's first blob; each process reads the file.

    Parameters
    ----------
    loss : ShardedMarginLoss
        Whose weight is replaced.
    path : path-like
        A binary caffemodel.
    layer : str
        Name of the layer.

    Raises
    ------
    SphereFaceError
        The file has no such layer, or one of another shape.
    """
    arrays = read_caffemodel(path).weights().get(layer, [])
    shape = (loss.num_classes, loss.in_features)
    if not arrays or not shape_equals(arrays[0].shape, shape):
        found = f"a blob of shape {arrays[0].shape}" if arrays else "no blob"
        raise SphereFaceError(
            found, where=f'{os.fspath(path)}: layer "{layer}"', expected=f"one of shape {shape}"
        )
    rows = torch.empty(loss.classes.count, loss.in_features)
    copy_blob(arrays[0].reshape(shape)[loss.classes.rows], rows.numpy())
    loss.weight.copy_(rows)
