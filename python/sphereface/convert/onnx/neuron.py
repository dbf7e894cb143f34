"""ReLU to HardSigmoid as ONNX nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sphereface.convert.onnx.graph import OnnxGraph, Value, onnx_layer

if TYPE_CHECKING:
    from sphereface.caffe.layers import neuron

__all__ = [
    "clip",
    "elu",
    "exp",
    "hard_sigmoid",
    "hard_swish",
    "log",
    "mish",
    "power",
    "relu",
    "relu6",
    "swish",
    "threshold",
    "unary",
]

_UNARY = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}


@onnx_layer(*_UNARY)
def unary(graph: OnnxGraph, layer: Any, x: Value) -> str:
    """Write the one node that is the layer."""
    return graph.node(_UNARY[layer.type], x)


@onnx_layer("ReLU")
def relu(graph: OnnxGraph, layer: neuron.ReLU, x: Value) -> str:
    """Write Relu, or LeakyRelu with a negative_slope."""
    if not layer.negative_slope:
        return graph.node("Relu", x)
    return graph.node("LeakyRelu", x, alpha=layer.negative_slope)


@onnx_layer("ELU")
def elu(graph: OnnxGraph, layer: neuron.ELU, x: Value) -> str:
    """Write Elu."""
    return graph.node("Elu", x, alpha=layer.alpha)


@onnx_layer("Swish")
def swish(graph: OnnxGraph, layer: neuron.Swish, x: Value) -> str:
    """Write x times Sigmoid(beta x)."""
    return graph.node("Mul", x, graph.node("Sigmoid", _affine(graph, x.name, layer.beta, 0)))


@onnx_layer("Clip")
def clip(graph: OnnxGraph, layer: neuron.Clip, x: Value) -> str:
    """Write Clip."""
    return graph.node("Clip", x, graph.constant(layer.min), graph.constant(layer.max))


@onnx_layer("ReLU6")
def relu6(graph: OnnxGraph, layer: neuron.ReLU6, x: Value) -> str:
    """Write Clip."""
    return graph.node("Clip", x, graph.constant(0), graph.constant(6))


@onnx_layer("Mish")
def mish(graph: OnnxGraph, layer: neuron.Mish, x: Value) -> str:
    """Write x times Tanh of Softplus; the node Mish is newer than the opset."""
    return graph.node("Mul", x, graph.node("Tanh", graph.node("Softplus", x)))


@onnx_layer("HardSigmoid")
def hard_sigmoid(graph: OnnxGraph, layer: neuron.HardSigmoid, x: Value) -> str:
    """Write HardSigmoid."""
    return graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@onnx_layer("HardSwish")
def hard_swish(graph: OnnxGraph, layer: neuron.HardSwish, x: Value) -> str:
    """Write x times HardSigmoid."""
    return graph.node("Mul", x, graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))


@onnx_layer("Threshold")
def threshold(graph: OnnxGraph, layer: neuron.Threshold, x: Value) -> str:
    """Write Greater, as numbers."""
    above = graph.node("Greater", x, graph.constant(layer.threshold))
    return graph.node("Cast", above, to=graph.onnx.TensorProto.FLOAT)


@onnx_layer("Power")
def power(graph: OnnxGraph, layer: neuron.Power, x: Value) -> str:
    """Write Pow of (shift + scale x), leaving out what does nothing."""
    if layer.constant is not None:
        return _affine(graph, x.name, 0, layer.constant)
    y = _affine(graph, x.name, layer.scale, layer.shift)
    return y if layer.power == 1 else graph.node("Pow", y, graph.constant(layer.power))


@onnx_layer("Exp")
def exp(graph: OnnxGraph, layer: neuron.Exp, x: Value) -> str:
    """Write Exp, with the base in the factors of x and of the result."""
    return _affine(graph, graph.node("Exp", _affine(graph, x.name, layer.inner, 0)), layer.outer, 0)


@onnx_layer("Log")
def log(graph: OnnxGraph, layer: neuron.Log, x: Value) -> str:
    """Write Log, with the base in the factor of the result."""
    y = graph.node("Log", _affine(graph, x.name, layer.scale, layer.shift))
    return _affine(graph, y, layer.outer, 0)


def _affine(graph: OnnxGraph, name: str, scale: float, shift: float) -> str:
    """Return shift + scale x."""
    if scale != 1:
        name = graph.node("Mul", name, graph.constant(scale))
    return graph.node("Add", name, graph.constant(shift)) if shift != 0 else name
