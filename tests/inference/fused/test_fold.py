from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.inference import Predictor

CONV = "convolution_param { num_output: %d kernel_size: %d pad: %d %s }"


def layer(name, kind, bottoms, top, options=""):
    words = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {words} top: "{top}" {options} }}\n'


def conv(name, bottom, top, outputs=8, kernel=3, pad=1, more=""):
    return layer(name, "Convolution", bottom, top, CONV % (outputs, kernel, pad, more))


def make(layers, shape=(2, 8, 7, 6)):
    """Return a net whose blobs are all random, statistics positive."""
    dims = " ".join(f"dim: {size}" for size in shape)
    net = load(f'input: "x" input_shape {{ {dims} }}\n{layers}')
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for own in net.layers:
            for name, blob in zip(own.blob_names, own.blobs, strict=True):
                blob.copy_(torch.randn(blob.shape, generator=generator) / 3)
                if name in ("variance", "scale_factor"):
                    blob.abs_().add_(0.5)
    return net


def folded(net, *blobs, tolerance=1e-5, **options):
    """Return names of the operations, once their results are those of the net in float64."""
    generator = torch.Generator().manual_seed(4)
    (name,) = net.inputs
    x = torch.randn(net.blob_shapes[name], generator=generator)
    predictor = Predictor(net, **options)
    found = predictor({name: x}, blobs)
    with torch.no_grad():
        expected = net.double()(x.double(), blobs=blobs)
    assert set(found) == set(expected)
    for blob, value in expected.items():
        assert value.abs().max() > 1e-3
        error = (found[blob] - value).abs().max() / value.abs().max()
        assert error < tolerance, blob
    return ["+".join(operation.names) for operation in predictor.folded(blobs).operations]


SCALE = "scale_param { bias_term: true filler { type: 'gaussian' } }"


def after(name):
    return layer(f"{name}_bn", "BatchNorm", name, name) + layer(
        f"{name}_s", "Scale", name, name, SCALE
    )


@pytest.mark.parametrize(
    "kind", ["", "group: 8", "group: 2", "bias_term: false", "stride: 2", "dilation: 2"]
)
def test_normalisation_behind_a_convolution(kind):
    net = make(conv("c", "x", "c", more=kind) + after("c") + layer("r", "PReLU", "c", "c"))
    assert folded(net) == ["c+c_bn+c_s+r"]


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (5, 3), (16, 8), (33, 17)])
def test_sizes_beside_the_width_of_a_vector(outputs, inputs):
    layers = conv("c", "x", "c", outputs) + layer("r", "PReLU", "c", "c")
    assert folded(make(layers, (3, inputs, 5, 4))) == ["c+r"]
    # Pixels too few for a tile, and channels of a depthwise kernel beside the vector's width.
    layers = conv("d", "x", "d", inputs, 3, 1, f"group: {inputs}") + layer("r", "ReLU", "d", "d")
    assert folded(make(layers, (1, inputs, 1, 2))) == ["d+r"]
    assert folded(make(layers, (2, inputs, 9, 40))) == ["d+r"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 6), (4, 7), (6, 11)])
def test_depthwise_kernels(stride, size):
    deep = conv("d", "x", "d", 8, 3, 1, f"group: 8 stride: {stride}")
    assert folded(make(deep + layer("r", "PReLU", "d", "d"), (2, 8, *size))) == ["d+r"]
    deep = conv("d", "x", "d", 8, 3, 2, f"group: 8 stride: {stride} dilation: 2")
    assert folded(make(deep, (1, 8, *size))) == ["d"]
    both = conv("a", "x", "a", 8) + conv("d", "a", "d", 8, 3, 1, "group: 8")
    assert folded(make(both + layer("e", "Eltwise", "a d", "e"), (1, 8, *size))) == ["a", "d+e"]


def test_softmax_over_channels():
    after = layer("p", "Softmax", "c", "p")
    assert folded(make(conv("c", "x", "c", 3) + after)) == ["c", "p"]
    product = layer("c", "InnerProduct", "x", "c", "inner_product_param { num_output: 30 }")
    assert folded(make(product + after)) == ["c", "p"]
    across = layer("p", "Softmax", "c", "p", "softmax_param { axis: 2 }")
    assert folded(make(conv("c", "x", "c", 3) + across)) == ["c", "p"]


def test_normalisation_before_a_product():
    before = layer("b", "BatchNorm", "x", "b") + layer("s", "Scale", "b", "b", SCALE)
    for group in ("", "group: 4"):
        assert folded(make(before + conv("c", "b", "c", 8, 3, 0, group))) == ["b+s+c"]
    # Zeros of the padding are not shifted.
    assert folded(make(before + conv("c", "b", "c"))) == ["b+s", "c"]
    scale = layer("s", "Scale", "x", "s", "scale_param { filler { type: 'gaussian' } }")
    assert folded(make(scale + conv("c", "s", "c"))) == ["s+c"]
    product = "inner_product_param { num_output: 5 %s }"
    for more in ("", "transpose: true", "bias_term: false"):
        layers = before + layer("f", "InnerProduct", "b", "f", product % more)
        layers += layer("p", "Power", "f", "f", "power_param { scale: -2 shift: 3 }")
        assert folded(make(layers)) == ["b+s+f+p"]


@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_an_inner_product_flattens_itself(kind):
    before = layer("b", "BatchNorm", "x", "b") + layer("s", "Scale", "b", "b", SCALE)
    option = "reshape_param { shape { dim: 0 dim: -1 } }" if kind == "Reshape" else ""
    layers = before + layer("k", kind, "b", "k", option)
    product = "inner_product_param { num_output: 5 }"
    net = make(layers + layer("f", "InnerProduct", "k", "f", product))
    assert folded(net) == ["b+s+f"]
    assert folded(net.float(), "k") == ["b+s", "k", "f"]
    both = layer("f", "InnerProduct", "k", "f", product) + layer("t", "TanH", "k", "t")
    assert folded(make(layers + both)) == ["b+s", "k", "f", "t"]


@pytest.mark.parametrize("options", ["global_pooling: true", "kernel_size: 3 stride: 2"])
def test_normalisation_passes_an_average(options):
    before = layer("b", "BatchNorm", "x", "b")
    pool = "pooling_param {{ pool: AVE {} {} }}"
    layers = before + layer("p", "Pooling", "b", "p", pool.format(options, ""))
    net = make(layers + layer("s", "Scale", "p", "p", SCALE))
    assert folded(net) == ["p", "b+s"]
    assert folded(net.float(), "b") == ["b", "p", "s"]
    product = layer("f", "InnerProduct", "p", "f", "inner_product_param { num_output: 5 }")
    assert folded(make(layers + product)) == ["p", "b+f"]
    if "kernel" in options:  # zeros of the padding are in the average
        padded = before + layer("p", "Pooling", "b", "p", pool.format(options, "pad: 1"))
        assert folded(make(padded + product)) == ["b", "p", "f"]


def test_a_long_inner_product():
    layers = layer("f", "InnerProduct", "x", "f", "inner_product_param { num_output: 3200 }")
    assert folded(make(layers + layer("r", "PReLU", "f", "f"))) == ["f+r"]


@pytest.mark.parametrize("other", ["x", "a"])
def test_residuals(other):
    start = conv("a", "x", "a") if other == "a" else ""
    rectified = layer("r", "PReLU", "c", "c")
    summed = layer("e", "Eltwise", f"{other} c", "e")
    ends = layer("end", "ReLU", "e", "e", "relu_param { negative_slope: 0.1 }")
    head = ["a"] if start else []
    body = start + conv("c", other, "c")
    assert folded(make(body + rectified + summed + ends)) == [*head, "c+r+e", "end"]
    assert folded(make(body + summed + ends)) == [*head, "c+e+end"]
    assert folded(make(body + summed)) == [*head, "c+e"]


def test_what_is_wanted_is_not_folded():
    net = make(
        conv("c", "x", "c") + layer("b", "BatchNorm", "c", "b") + layer("r", "ReLU", "b", "r")
    )
    assert folded(net) == ["c+b+r"]
    net = make(
        conv("c", "x", "c") + layer("b", "BatchNorm", "c", "b") + layer("r", "ReLU", "b", "r")
    )
    assert folded(net, "c") == ["c", "b+r"]
    net = make(
        conv("c", "x", "c") + layer("b", "BatchNorm", "c", "b") + layer("r", "ReLU", "b", "r")
    )
    assert folded(net, "b") == ["c+b", "r"]


def test_what_two_read_is_not_folded():
    layers = conv("c", "x", "c") + layer("b", "BatchNorm", "c", "b") + layer("r", "ReLU", "c", "r")
    assert folded(make(layers)) == ["c", "b", "r"]


def test_layers_that_do_nothing_are_dropped():
    layers = layer("d", "Dropout", "x", "d") + layer(
        "k", "Reshape", "d", "k", "reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 } }"
    )
    layers += 'layer { name: "s" type: "Split" bottom: "k" top: "s1" top: "s2" }\n'
    layers += 'layer { name: "q" type: "Silence" bottom: "s2" }\n' + conv("c", "s1", "c")
    net = make(layers)
    assert folded(net) == ["c"]
    assert Predictor(net.float()).folded().dropped == ["d", "k", "s", "q"]


def test_statistics_of_the_batch_are_not_folded():
    options = "batch_norm_param { use_global_stats: false }"
    net = make(conv("c", "x", "c") + layer("b", "BatchNorm", "c", "c", options))
    predictor = Predictor(net)
    assert [o.names for o in predictor.folded().operations] == [["c"], ["b"]]
    found = predictor({"x": torch.randn(2, 8, 7, 6)})["c"]
    assert found.mean((0, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    "options",
    [
        "kernel_size: 3 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "global_pooling: true",
        "kernel_size: 2 stride: 1",
    ],
)
def test_pooling_between(pool, options):
    for channels in (8, 5):
        layers = conv("c", "x", "c", channels)
        layers += layer("p", "Pooling", "c", "p", f"pooling_param {{ pool: {pool} {options} }}")
        layers += layer("r", "ReLU", "p", "r")
        assert folded(make(layers)) == ["c", "p", "r"]


def test_other_dtypes_and_formats():
    layers = conv("a", "x", "a") + after("a") + layer("r", "PReLU", "a", "a") + conv("c", "a", "c")
    layers += layer("e", "Eltwise", "a c", "e") + layer("end", "ReLU", "e", "e")
    assert folded(make(layers), channels_last=False) == ["a+a_bn+a_s+r", "c+e+end"]
    assert folded(make(layers), bfloat16=True, tolerance=3e-2) == ["a+a_bn+a_s+r", "c+e+end"]


def test_not_a_number_and_infinity_pass():
    net = make(conv("c", "x", "c", 8, 1, 0) + layer("r", "ReLU", "c", "c"))
    x = torch.ones(2, 8, 7, 6)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = torch.nan, torch.inf
    with torch.no_grad():
        expected = net(x)["c"]
    assert torch.allclose(Predictor(net)({"x": x})["c"], expected, equal_nan=True)
