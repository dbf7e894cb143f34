"""Margin heads as ``torch.nn.Module``."""

from sphereface.nn.margin_inner_product import MarginInnerProduct

__all__ = ["MarginInnerProduct"]
