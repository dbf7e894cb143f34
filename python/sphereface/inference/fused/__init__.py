"""Nets folded for inference: fewer operations, each with what follows it."""

from sphereface.inference.fused.fold import Folded, fold
from sphereface.inference.fused.fused_net import FusedNet
from sphereface.inference.fused.fused_text import fused_text
from sphereface.inference.fused.operation import Operation

__all__ = ["Folded", "FusedNet", "Operation", "fold", "fused_text"]
