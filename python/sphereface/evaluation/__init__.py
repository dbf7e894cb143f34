"""Judging features: verification, identification and their figures. No models, no torch.

Everything takes arrays, or the files that features and pairs come in. The pictures are in
`sphereface.evaluation.plots` and `curves`, which need matplotlib. docs/evaluation.md defines every
figure.
"""

from sphereface.evaluation.auc import Area, AreaDifference, area, area_difference
from sphereface.evaluation.far import FAR_TARGETS, OperatingPoint, tar_at_far
from sphereface.evaluation.features import Features, read_features
from sphereface.evaluation.pair_features import PairFeatures, look_up, read_pair_features
from sphereface.evaluation.pair_lists import PairList, read_pairs
from sphereface.evaluation.pairs import Pairs, verification_pairs
from sphereface.evaluation.protocols import PROTOCOLS, best_of_all, facenet
from sphereface.evaluation.roc import EqualErrorRate, Roc, equal_error_rate, roc
from sphereface.evaluation.ten_fold import FoldResult, accuracy, best_threshold, ten_fold
from sphereface.evaluation.verification import Verification, verify

__all__ = [
    "FAR_TARGETS",
    "PROTOCOLS",
    "Area",
    "AreaDifference",
    "EqualErrorRate",
    "Features",
    "FoldResult",
    "OperatingPoint",
    "PairFeatures",
    "PairList",
    "Pairs",
    "Roc",
    "Verification",
    "accuracy",
    "area",
    "area_difference",
    "best_of_all",
    "best_threshold",
    "equal_error_rate",
    "facenet",
    "look_up",
    "read_features",
    "read_pair_features",
    "read_pairs",
    "roc",
    "tar_at_far",
    "ten_fold",
    "verification_pairs",
    "verify",
]
