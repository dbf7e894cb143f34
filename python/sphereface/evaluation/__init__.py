"""Judging features: verification pairs and protocols. Takes arrays, knows no models, no torch.

The figures are in `sphereface.evaluation.plots`, which needs matplotlib.
"""

from sphereface.evaluation.pairs import Pairs, verification_pairs
from sphereface.evaluation.ten_fold import FoldResult, accuracy, best_threshold, ten_fold

__all__ = ["FoldResult", "Pairs", "accuracy", "best_threshold", "ten_fold", "verification_pairs"]
