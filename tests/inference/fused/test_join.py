"""Operations that are run as one: first convolutions with their pooling, and the nets' heads."""

from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.inference import Predictor


def layer(name, kind, bottom, top, options=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {options} }}\n'


def conv(name, bottom, outputs, kernel=3, more=""):
    options = f"num_output: {outputs} kernel_size: {kernel} {more}"
    return layer(name, "Convolution", bottom, name, f"convolution_param {{ {options} }}")


def product(name, bottom, outputs):
    return layer(
        name, "InnerProduct", bottom, name, f"inner_product_param {{ num_output: {outputs} }}"
    )


def pool(bottom, options="kernel_size: 2 stride: 2", method="MAX"):
    return layer("p", "Pooling", bottom, "p", f"pooling_param {{ pool: {method} {options} }}")


def make(layers, shape):
    """Return a net whose blobs are all random."""
    dims = " ".join(f"dim: {size}" for size in shape)
    net = load(f'input: "x" input_shape {{ {dims} }}\n{layers}').eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for own in net.layers:
            for blob in own.blobs:
                blob.copy_(torch.randn(blob.shape, generator=generator) / 3)
    return net


def agrees(predictor, net, shape, blobs=()):
    """Compare with the net in float64."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    found = predictor({"x": x}, blobs)
    with torch.no_grad():
        expected = net.double()({"x": x.double()}, blobs=blobs)
    net.float()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].is_contiguous()
        assert (found[name] - value).abs().max() <= 1e-5 * value.abs().max(), name


def names(predictor, blobs=()):
    return ["+".join(operation.names) for operation in predictor.folded(blobs).operations]


@pytest.mark.parametrize("shape", [(1, 3, 12, 12), (2, 3, 9, 31), (1, 3, 4, 4), (3, 3, 25, 70)])
@pytest.mark.parametrize(("outputs", "window"), [(10, 2), (28, 3), (32, 3), (40, 2)])
def test_a_first_convolution_and_its_pooling(shape, outputs, window):
    layers = conv("c", "x", outputs) + layer("r", "PReLU", "c", "c")
    layers += pool("c", f"kernel_size: {window} stride: 2") + conv("d", "p", 5, 1)
    net = make(layers, shape)
    predictor = Predictor(net)
    assert names(predictor) == ["c+r+p", "d"]
    agrees(predictor, net, shape)
    agrees(predictor, net, (2, 3, 17, 24))  # of another size than the net was built for
    agrees(predictor, net, shape, ["c", "p"])


@pytest.mark.parametrize(
    ("channels", "first", "pooling"),
    [
        (1, conv("c", "x", 7, 5, "pad: 2 stride: 2"), pool("c", "kernel_size: 3 stride: 2 pad: 1")),
        (4, conv("c", "x", 16, 3, "dilation: 2 bias_term: false"), pool("c")),
        (3, conv("c", "x", 33, 7, "pad: 3 stride: 2"), pool("c", "kernel_size: 3 stride: 1")),
        (2, conv("c", "x", 3, 2, "stride_h: 3 stride_w: 1"), pool("c", "kernel_h: 1 kernel_w: 4")),
    ],
)
def test_windows_of_both(channels, first, pooling):
    net = make(first + pooling, (2, channels, 22, 19))
    predictor = Predictor(net)
    assert names(predictor) == ["c+p"]
    agrees(predictor, net, (2, channels, 22, 19))


@pytest.mark.parametrize(
    "layers",
    [
        conv("c", "x", 8, 3, "stride: 3") + pool("c"),
        conv("c", "x", 8, 3, "group: 2") + pool("c"),
        conv("c", "x", 8) + pool("c", method="AVE"),
        conv("c", "x", 8) + pool("c", "global_pooling: true"),
        conv("c", "x", 8) + pool("c") + conv("d", "c", 4),
        conv("a", "x", 4) + conv("c", "a", 8) + pool("c"),
    ],
)
def test_what_is_not_pooled_at_once(layers):
    net = make(layers, (2, 4, 14, 15))
    predictor = Predictor(net)
    assert "c+p" not in names(predictor)
    agrees(predictor, net, (2, 4, 14, 15))


def test_images_that_are_read_as_planes_and_by_pixel():
    layers = conv("c", "x", 8) + pool("c") + conv("d", "x", 4, 3, "stride: 3")
    layers += conv("e", "x", 20) + layer("s", "Power", "x", "s", "power_param { scale: 3 }")
    net = make(layers, (2, 3, 16, 15))
    predictor = Predictor(net)
    assert names(predictor) == ["c+p", "d", "e", "s"]
    agrees(predictor, net, (2, 3, 16, 15))


def test_not_a_number_is_the_maximum():
    net = make(conv("c", "x", 10) + layer("r", "ReLU", "c", "c") + pool("c"), (1, 3, 30, 30))
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.randn(1, 3, 30, 30)
        x[0, 1, 13, 14] = value
        with torch.no_grad():
            expected = net(x)["p"]
        found = Predictor(net)({"x": x})["p"]
        assert torch.allclose(found, expected, atol=1e-5, equal_nan=True)


HEADS = conv("a", "x", 2, 1) + conv("b", "x", 4, 1) + layer("s", "Softmax", "a", "s")


@pytest.mark.parametrize("shape", [(1, 32, 1, 1), (3, 32, 5, 7), (1, 7, 19, 19), (2, 8, 1, 50)])
def test_heads(shape):
    net = make(HEADS, shape)
    predictor = Predictor(net)
    assert names(predictor) == ["a+b+s"]
    agrees(predictor, net, shape)
    agrees(predictor, net, (2, shape[1], 3, 4))
    assert names(predictor, ["a"]) == ["a", "b", "s"]
    agrees(predictor, net, shape, ["a"])


@pytest.mark.parametrize("images", [1, 2, 5])
def test_batches_image_by_image(images):
    layers = conv("c", "x", 10) + layer("r", "PReLU", "c", "c") + pool("c") + conv("d", "p", 20)
    net = make(layers + HEADS.replace('"x"', '"d"'), (images, 3, 20, 22))
    predictor = Predictor(net)
    assert names(predictor) == ["c+r+p", "d", "a+b+s"]
    agrees(predictor, net, (images, 3, 20, 22))
    agrees(predictor, net, (2 * images, 3, 9, 31))


def test_heads_that_are_inner_products():
    layers = product("a", "x", 2) + product("b", "x", 4) + product("c", "x", 10)
    layers += layer("s", "Softmax", "c", "s")
    for shape in ((1, 128), (16, 128), (5, 6, 1, 1), (2, 3, 4, 5)):
        net = make(layers, shape)
        predictor = Predictor(net)
        assert names(predictor) == ["a+b+c+s"]
        agrees(predictor, net, shape)
        agrees(predictor, net, (7, *shape[1:]))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (conv("a", "x", 2, 1) + conv("b", "x", 4, 1, "stride: 2"), ["a", "b"]),
        (conv("a", "x", 2, 1) + conv("b", "x", 15, 1), ["a", "b"]),
        (conv("a", "x", 2, 1) + conv("b", "x", 4, 1) + conv("c", "b", 3, 1), ["a", "b", "c"]),
        (
            conv("a", "x", 2, 1) + conv("b", "x", 4, 1) + layer("r", "ReLU", "b", "b"),
            ["a", "b+r"],
        ),
        ("".join(conv(name, "x", 3, 1) for name in "abcdef"), ["a+b+c+d", "e", "f"]),
        (HEADS.replace('"Softmax"', '"Softmax" softmax_param { axis: 2 }'), ["a", "b", "s"]),
    ],
)
def test_what_heads_are(layers, expected):
    net = make(layers, (2, 8, 5, 6))
    predictor = Predictor(net)
    assert names(predictor) == expected
    agrees(predictor, net, (2, 8, 5, 6))


@pytest.mark.parametrize("layers", [HEADS, conv("a", "x", 8) + pool("a")])
def test_as_torch_runs_them(layers):
    net = make(layers, (2, 4, 6, 6))
    predictor = Predictor(net)
    for blob in predictor({"x": torch.zeros(0, 4, 6, 6)}).values():
        assert blob.shape[0] == 0
    x = torch.randn(2, 4, 6, 6)
    expected = predictor({"x": x})
    found = Predictor(net, bfloat16=True)({"x": x})
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=0.05)


def test_operations_one_by_one():
    layers = conv("c", "x", 10) + pool("c") + HEADS.replace('"x"', '"p"')
    net = make(layers, (1, 3, 20, 20))
    predictor = Predictor(net)
    done = []
    for layers_of, run in predictor.operations({"x": torch.randn(1, 3, 20, 20)}):
        run()
        done.append("+".join(layers_of))
    assert done == ["c+p", "a+b+s"]
