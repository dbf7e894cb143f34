"""Nets made smaller: channels of convolutions removed by the norm of their filters."""

from sphereface.pruning.plan import RESIDUAL, ConvolutionRow, PruningPlan, plan_pruning

__all__ = ["RESIDUAL", "ConvolutionRow", "PruningPlan", "plan_pruning"]
