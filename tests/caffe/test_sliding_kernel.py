"""The options that Convolution, Deconvolution and Im2col read alike."""

from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError

TYPES = ("Convolution", "Deconvolution", "Im2col")


def layer(type_: str, options: str) -> str:
    return (
        f'layer {{ name: "l" type: "{type_}" bottom: "x" top: "y" '
        f"convolution_param {{ num_output: 3 {options} }} }}"
    )


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("kernel_size: 3", ((3, 3), (1, 1), (0, 0), (1, 1))),
        (
            "kernel_size: 3 stride: 2 pad: 1 dilation: 2",
            ((3, 3), (2, 2), (1, 1), (2, 2)),
        ),
        (
            "kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1",
            ((1, 3), (2, 1), (0, 1), (1, 1)),
        ),
        (
            "kernel_size: [1, 3] stride: [2, 1] pad: [0, 1] dilation: [1, 2]",
            ((1, 3), (2, 1), (0, 1), (1, 2)),
        ),
    ],
)
def test_every_way_to_write_an_option(type_, options, expected, layer_net):
    found = layer_net(layer(type_, options), x=(1, 2, 8, 9)).layer
    assert (found.kernel, found.stride, found.pad, found.dilation) == expected


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (1, 2, 4, 4), "kernel_size given 0 times"),
        ("kernel_size: [2, 2, 2]", (1, 2, 4, 4), "given 3 times; expected once"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", (1, 2, 4, 4), "together with"),
        ("kernel_h: 2 kernel_w: 2", (1, 2, 4), "for two spatial axes"),
        ("kernel_size: 0", (1, 2, 4, 4), r"kernel \(0, 0\)"),
        ("kernel_size: 2 stride: 0", (1, 2, 4, 4), r"stride \(0, 0\)"),
        ("kernel_size: 2", (1, 2), "expected spatial axes after the channel axis 1"),
    ],
)
def test_impossible_options_are_refused(type_, options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=rf'layer "l" \({type_}\): .*{message}'):
        layer_net(layer(type_, options), x=shape)


@pytest.mark.parametrize(
    ("type_", "options"), [("Convolution", ""), ("Im2col", ""), ("Deconvolution", "pad: 9")]
)
def test_a_bottom_smaller_than_the_kernel(type_, options, layer_net):
    with pytest.raises(SphereFaceError, match=r"expected sizes that hold the kernel \(5, 5\)"):
        layer_net(layer(type_, f"kernel_size: 5 {options}"), x=(1, 2, 4, 4))
