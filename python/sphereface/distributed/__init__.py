"""Losses over more classes than one device holds, on torch.distributed."""

from sphereface.class_range import ClassRange
from sphereface.distributed.caffemodel import load_caffemodel, save_caffemodel
from sphereface.distributed.sharded_margin_loss import ShardedMarginLoss

__all__ = ["ClassRange", "ShardedMarginLoss", "load_caffemodel", "save_caffemodel"]
