"""The operators ``torch.ops.sphereface.*`` and their functional forms."""

from sphereface.ops import _fork as _fork  # it only has to be there
from sphereface.ops.angular_triplet import angular_triplet_logits
from sphereface.ops.annealing import annealed_lambda
from sphereface.ops.convolution import conv2d
from sphereface.ops.margin_inner_product import margin_inner_product, normalize_rows_
from sphereface.ops.margin_softmax import margin_softmax_loss
from sphereface.ops.prelu import prelu

__all__ = [
    "angular_triplet_logits",
    "annealed_lambda",
    "conv2d",
    "margin_inner_product",
    "margin_softmax_loss",
    "normalize_rows_",
    "prelu",
]
