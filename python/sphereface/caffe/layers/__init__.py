"""The layer catalogue: a file a type (or family); importing this package registers them all."""

from __future__ import annotations

from importlib import import_module

__all__ = ["LAYER_FILES"]

LAYER_FILES = (
    "accuracy",
    "argmax",
    "batch_norm",
    "batch_reindex",
    "bias",
    "bn",
    "center_loss",
    "channel_scale",
    "concat",
    "contrastive_loss",
    "convolution",
    "crop",
    "data_sources",
    "deconvolution",
    "dropout",
    "dummy_data",
    "eltwise",
    "embed",
    "euclidean_loss",
    "filter",
    "flatten",
    "flip",
    "general_contrastive_loss",
    "general_triplet_loss",
    "hinge_loss",
    "im2col",
    "infogain_loss",
    "inner_distance",
    "inner_product",
    "input",
    "inter_class",
    "label_specific",
    "large_margin_inner_product",
    "lrn",
    "margin_inner_product",
    "multinomial_logistic_loss",
    "mvn",
    "neuron",
    "normalize",
    "parameter",
    "pooling",
    "prelu",
    "python",
    "reduction",
    "reshape",
    "scale",
    "sigmoid_cross_entropy_loss",
    "silence",
    "slice",
    "softmax",
    "softmax_loss",
    "split",
    "spp",
    "tile",
)

for _file in LAYER_FILES:
    import_module(f"{__name__}.{_file}")
