"""Multiply-accumulates of a layer.

Counted are the products with a weight matrix or a kernel, as papers on face networks count them:
convolutions, inner products, margin products, recurrent products and their kin, forward only,
without the addition of a bias. Activations, normalisation, pooling and element-wise layers count 0,
and so does Embed, which looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from sphereface.caffe import Layer
from sphereface.caffe.registry import is_shipped

__all__ = ["layer_macs"]

Shape = tuple[int, ...]


def layer_macs(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Return the multiply-accumulates of one forward pass of `layer`.

    Parameters
    ----------
    layer : Layer
        A built layer. One of a type that is not of this package is asked for its count with
        ``layer.macs(bottoms, tops)`` if it has such a method, and counts 0 otherwise.
    bottoms, tops : sequence of shape
        Its shapes, batch included.
    """
    rule = _RULES.get(layer.type)
    if rule is not None and is_shipped(layer.type, type(layer)):
        return rule(layer, bottoms, tops)
    own = getattr(layer, "macs", None)
    return int(own(bottoms, tops)) if callable(own) else 0


def _convolution(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    # Every output value takes the kernel over the channels of its group.
    per_output = prod(layer.blobs[0].shape[1:])
    return per_output * sum(map(prod, tops))


def _deconvolution(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    # Every input value is spread by the kernel over the outputs of its group.
    per_input = prod(layer.blobs[0].shape[1:])
    return per_input * sum(map(prod, bottoms))


def _product(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    # A row of the first top from each row of the first bottom; the rows are what is left of K.
    axis = len(tops[0]) - 1
    return prod(tops[0]) * prod(bottoms[0][axis:])


def _recurrent(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    # x is (T, N, ...); the static input is multiplied once a sequence, the rest at every step.
    steps, streams = bottoms[0][:2]
    total = 0
    for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
        if name.startswith("weight"):
            total += blob.numel() * streams * (1 if name == "weight_static" else steps)
    return total


_RULES: dict[str, Callable[[Layer, Sequence[Shape], Sequence[Shape]], int]] = {
    "Convolution": _convolution,
    "DepthwiseConvolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "Deconvolution": _deconvolution,
    "InnerProduct": _product,
    "MarginInnerProduct": _product,
    "LargeMarginInnerProduct": _product,
    "InnerDistance": _product,
    "LSTM": _recurrent,
    "RNN": _recurrent,
}
