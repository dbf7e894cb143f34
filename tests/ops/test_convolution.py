"""The convolution's own gradients against ATen's in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sphereface.ops.convolution import conv2d

ATEN = torch.ops.aten.convolution_backward
OP = torch.ops.sphereface.convolution_kernel_gradient


def case(
    *, images=3, channels=16, outputs=5, size=(13, 9), kernel=(3, 3), stride=(1, 1), pad=(1, 1),
    dilation=(1, 1),
):  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(outputs, channels, *kernel, dtype=torch.float64, generator=generator)
    grad = torch.randn(
        F.conv2d(x, weight, None, stride, pad, dilation).shape,
        dtype=torch.float64,
        generator=generator,
    )
    return x, weight, grad, (stride, pad, dilation)


CASES = [
    {},
    {"stride": (2, 2)},
    {"kernel": (1, 1), "pad": (0, 0)},
    {"kernel": (3, 5), "pad": (0, 2), "stride": (2, 1), "dilation": (2, 1)},
    {"images": 1, "size": (3, 3), "pad": (0, 0)},
    {"channels": 33, "outputs": 13},  # panels that are not full
    {"channels": 3, "outputs": 1, "pad": (2, 3)},
]
# More than fits in the caches: bands of an image's rows, and of several images.
BANDS = [
    {"images": 2, "channels": 64, "size": (90, 70), "stride": (2, 2)},
    {"images": 70, "channels": 65, "size": (9, 8)},
]


@pytest.mark.parametrize("options", [*CASES, *BANDS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_kernel_gradient(options, dtype, tolerance):
    x, weight, grad, given = case(**options)
    x, grad = x.to(dtype), grad.to(dtype)
    expected = ATEN(
        grad.double(), x.double(), weight, None, *given, False, (0, 0), 1, (False, True, False)
    )[1]
    found = OP(grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1), weight.shape[2:], *given)
    found = found.permute(0, 3, 1, 2)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert float((found.double() - expected).norm() / expected.norm()) < tolerance


def test_bits_do_not_depend_on_the_number_of_threads():
    x, weight, grad, given = case(**BANDS[0])
    rows = [t.float().permute(0, 2, 3, 1).contiguous() for t in (grad, x)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(OP(*rows, weight.shape[2:], *given))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (13, 9, 16)}, r"x has shape \(13, 9, 16\); expected \(N, H, W, channels\)"),
        ({"grad": (3, 13, 8, 5)}, r"grad has shape .*; expected \(3, 13, 9, outputs\)"),
        ({"grad": (2, 13, 9, 5)}, r"grad has shape .*; expected \(3, 13, 9, outputs\)"),
        ({"dtype": torch.float64}, "x has dtype float64; expected float32 or bfloat16"),
        ({"stride": (1,)}, "an option has 1 numbers; expected 2"),
        ({"stride": (0, 1)}, "which these kernels, strides and pads do not fit"),
        ({"pad": (-1, 2**62)}, "which these kernels, strides and pads do not fit"),
        ({"kernel": (40, 3)}, "which these kernels, strides and pads do not fit"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    given = {"grad": (3, 13, 9, 5), "x": (3, 13, 9, 16), "kernel": (3, 3), "stride": (1, 1),
             "pad": (1, 1), "dilation": (1, 1), "dtype": torch.float32} | change  # fmt: skip
    grad, x = (torch.zeros(given[name], dtype=given["dtype"]) for name in ("grad", "x"))
    with pytest.raises(RuntimeError, match=message):
        OP(grad, x, given["kernel"], given["stride"], given["pad"], given["dilation"])


def gradients(function, dtype, options, group=1):
    x, weight, grad, given = case(**options)
    weight = weight if group == 1 else weight[:4, : 16 // group]
    bias = torch.arange(len(weight), dtype=torch.float64)
    leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
    y = function(*leaves, *given, group)
    y.backward(grad[:, : len(weight)].to(dtype))
    return [y.detach().double(), *(leaf.grad.double() for leaf in leaves)]


@pytest.mark.parametrize("options", CASES)
def test_float32_gradients_are_the_true_ones(options):
    expected = gradients(F.conv2d, torch.float64, options)
    for found, true in zip(gradients(conv2d, torch.float32, options), expected, strict=True):
        assert float((found - true).norm() / true.norm()) < 1e-6


@pytest.mark.parametrize("group", [1, 4])
def test_bfloat16_is_rounded_once(group):
    """Where the CPU has no such instructions; where it has, that is what they do."""
    expected = gradients(F.conv2d, torch.float64, {}, group)
    for found, true in zip(gradients(conv2d, torch.bfloat16, {}, group), expected, strict=True):
        assert float((found - true).norm() / true.norm()) < 6e-3


def test_autocast_rounds_as_torchs_convolution_does():
    x, weight, _, given = case()
    x, weight = x.float(), weight.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, weight.requires_grad_(), None, *given, 1)
    rounded = F.conv2d(x.bfloat16().double(), weight.detach().bfloat16().double(), None, *given)
    assert y.dtype == torch.bfloat16
    assert float((y.detach().double() - rounded).norm() / rounded.norm()) < 3e-3
    y.sum().backward()
    assert weight.grad.dtype == torch.float32


def test_without_gradients_it_is_torchs():
    x, weight, _, given = case()
    torch.testing.assert_close(
        conv2d(x, weight, None, *given, 1), F.conv2d(x, weight, None, *given), rtol=0, atol=0
    )


def test_a_second_derivative_is_refused():
    x, weight, _, given = case()
    x = x.float().requires_grad_()
    (dx,) = torch.autograd.grad(
        conv2d(x, weight.float(), None, *given, 1).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()
