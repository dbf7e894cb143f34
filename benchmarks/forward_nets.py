"""The nets of benchmarks/inference.py, each as the files that its sides read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from google.protobuf import text_format
from torch import Tensor

from sphereface.caffe import Net, load
from sphereface.caffe.layers.batch_norm import BatchNorm
from sphereface.caffe.load import load_file
from sphereface.convert import pytorch_source, save_net
from sphereface.resources import prototxt_path

SHARED = Path(__file__).resolve().parents[2] / "shared"  # released weights, where they are
RELEASED = {"mobilefacenet": "lfw/mobilefacenet", **{f"det{i}": f"mtcnn/det{i}" for i in (1, 2, 3)}}
DEPTHS = (4, 10, 20, 36, 64)
NETS = (*(f"sphereface_{depth}" for depth in DEPTHS), "mobilefacenet", *RELEASED, "resnet_50")
NETS = tuple(dict.fromkeys(NETS))
PICTURES = 8  # that give the statistics of random weights


def prepare(name: str, folder: Path) -> Net:
    """Write a net as prototxt, caffemodel, ONNX, PyTorch source and state dict; return it.

    Weights are the released ones where there are such files, else random ones, with the statistics
    of random pictures for every normalisation.
    """
    model = SHARED / f"{RELEASED.get(name, name)}.caffemodel"
    if folder.is_dir():
        return load(folder / "net.prototxt", folder / "net.caffemodel")
    source = definition(name, model)
    net = load(source, model if model.is_file() else None, generator=_seed())
    if not model.is_file():
        _normalise(net)
    begun = folder.with_name(f"{folder.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    (begun / "net.prototxt").write_text(source)
    save_net(net, begun / "net.caffemodel")
    save_net(net, begun / "net.onnx", images=name == "det1")
    save_net(net, begun / "net.pt")
    (begun / "net.py").write_text(pytorch_source(net, "Ported"))
    begun.rename(folder)
    return net


def definition(name: str, model: Path) -> str:
    """Return the prototxt of a net, as text."""
    if name == "mobilefacenet":
        if model.is_file():
            return text_format.MessageToString(load_file(model).net)
        return "\n".join(mobilefacenet())
    if name == "resnet_50":
        return "\n".join(resnet_50())
    return prototxt_path(name if name in RELEASED else f"{name}_deploy").read_text()


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _normalise(net: Net) -> None:
    """Set the statistics of every BatchNorm to those of what it is given.

    Others let the values grow or vanish with depth: ResNet-50's outputs were 1e-33.
    """

    def measure(layer: BatchNorm, bottoms: tuple[Tensor, ...]) -> None:
        channels = bottoms[0].transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(channels, dim=1, correction=0)
        layer.mean.copy_(mean)
        layer.variance.copy_(variance)
        layer.scale_factor.fill_(1)

    hooks = [
        layer.register_forward_pre_hook(measure)
        for layer in net.layers
        if isinstance(layer, BatchNorm)
    ]
    shape = (PICTURES, *net.blob_shapes[net.inputs[0]][1:])
    with torch.no_grad():
        net.double()(torch.randn(shape, generator=_seed(), dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    net.float()


def _input(height: int, width: int) -> str:
    dims = f"dim: 1 dim: 3 dim: {height} dim: {width}"
    return (
        f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}'
    )


def _layer(name: str, kind: str, bottoms: str, options: str = "") -> str:
    words = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {words} top: "{name}" {options} }}'


def _normalised(name: str, bottom: str) -> Iterator[str]:
    """Yield BatchNorm and Scale; the blob is called `name`_s."""
    yield _layer(f"{name}_b", "BatchNorm", bottom)
    yield _layer(f"{name}_s", "Scale", f"{name}_b", "scale_param { bias_term: true }")


def _convolution(
    name: str,
    bottom: str,
    outputs: int,
    kernel: int,
    stride: int = 1,
    group: int = 1,
    rectifier: str = "",
) -> Iterator[str]:
    """Yield a convolution, its normalisation and its rectifier, whose blob is called `name`."""
    pad = kernel // 2
    yield _layer(
        f"{name}_c",
        "Convolution",
        bottom,
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride}"
        f' pad: {pad} group: {group} bias_term: false weight_filler {{ type: "msra" }} }}',
    )
    yield from _normalised(name, f"{name}_c")
    if rectifier:
        yield _layer(name, rectifier, f"{name}_s")


def mobilefacenet() -> Iterator[str]:
    """Yield the layers of MobileFaceNet (S. Chen et al., 2018) as InsightFace trained it."""
    yield _input(112, 112)
    yield from _convolution("conv1", "data", 64, 3, 2, rectifier="PReLU")
    yield from _convolution("conv2", "conv1", 64, 3, 1, 64, "PReLU")
    bottom = "conv2"
    for stage, wide, outputs, count in ((3, 128, 64, 4), (4, 256, 128, 6), (5, 512, 128, 2)):
        for unit in range(count + 1):
            name = f"unit{stage}_{unit}"
            inner = wide if unit == 0 else 2 * outputs
            yield from _convolution(f"{name}_in", bottom, inner, 1, rectifier="PReLU")
            stride = 2 if unit == 0 else 1
            yield from _convolution(f"{name}_deep", f"{name}_in", inner, 3, stride, inner, "PReLU")
            yield from _convolution(f"{name}_out", f"{name}_deep", outputs, 1)
            if unit:
                yield _layer(name, "Eltwise", f"{name}_out_s {bottom}")
            bottom = name if unit else f"{name}_out_s"
    yield from _convolution("conv6", bottom, 512, 1, rectifier="PReLU")
    yield from _normalised("f", "conv6")
    yield _layer("pool", "Pooling", "f_s", "pooling_param { pool: AVE kernel_size: 7 }")
    yield from _normalised("w", "pool")
    product = 'inner_product_param { num_output: 128 weight_filler { type: "xavier" } }'
    yield _layer("fc", "InnerProduct", "w_s", product)
    yield from _normalised("embedding", "fc")


def resnet_50() -> Iterator[str]:
    """Yield the layers of ResNet-50 (K. He et al., 2016)."""
    yield _input(224, 224)
    yield from _convolution("conv1", "data", 64, 7, 2, rectifier="ReLU")
    yield _layer(
        "pool1", "Pooling", "conv1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
    )
    bottom = "pool1"
    for stage, channels, count in ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for unit in range(count):
            name = f"res{stage}_{unit}"
            stride = 2 if unit == 0 and stage > 2 else 1
            yield from _convolution(f"{name}_1", bottom, channels, 1, stride, rectifier="ReLU")
            yield from _convolution(f"{name}_2", f"{name}_1", channels, 3, rectifier="ReLU")
            yield from _convolution(f"{name}_3", f"{name}_2", 4 * channels, 1)
            if unit == 0:
                yield from _convolution(f"{name}_0", bottom, 4 * channels, 1, stride)
                bottom = f"{name}_0_s"
            yield _layer(f"{name}_sum", "Eltwise", f"{name}_3_s {bottom}")
            yield _layer(name, "ReLU", f"{name}_sum")
            bottom = name
    yield _layer("pool5", "Pooling", bottom, "pooling_param { pool: AVE global_pooling: true }")
    product = 'inner_product_param { num_output: 1000 weight_filler { type: "xavier" } }'
    yield _layer("fc", "InnerProduct", "pool5", product)
    yield _layer("prob", "Softmax", "fc")
