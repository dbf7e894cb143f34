from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sphereface.caffe import Net, load
from sphereface.inference import Predictor
from sphereface.inference.packed_convolution import PackedConvolutions, PackedKernel


def make(options: str, shape: tuple[int, ...] = (1, 6, 11, 9), kind: str = "Convolution") -> Net:
    dims = " ".join(f"dim: {size}" for size in shape)
    return load(
        f"""input: "x" input_shape {{ {dims} }}
        layer {{ name: "c" type: "{kind}" bottom: "x" top: "y" convolution_param {{
          weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} {options} }} }}""",
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Convolution", "num_output: 4 kernel_size: 3"),
        ("Convolution", "num_output: 8 kernel_size: 3 stride: 2 pad: 1"),
        ("Convolution", "num_output: 8 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 2"),
        ("Convolution", "num_output: 6 kernel_size: 3 dilation: 2 bias_term: false"),
        ("Convolution", "num_output: 6 kernel_size: 1 group: 3"),
        ("DepthwiseConvolution", "num_output: 6 kernel_size: 3 pad: 1"),
        ("Convolution", "num_output: 40 kernel_size: 5 pad: 2 stride: 3 group: 2"),
    ],
)
def test_same_numbers_in_double(kind, options, channels_last, rng, norm_error):
    net = make(options, kind=kind)
    predictor = Predictor(net, channels_last=channels_last)
    # Sizes and batches that change pack again; the first comes back at the end.
    for shape in [(1, 6, 11, 9), (5, 6, 11, 9), (2, 6, 20, 7), (1, 6, 11, 9)]:
        x = torch.from_numpy(rng.normal(size=shape)).float()
        expected = make(options, kind=kind).double()(x.double())["y"]
        assert norm_error(predictor({"x": x})["y"], expected) < 1e-6


def test_the_packed_kernels_are_used(monkeypatch):
    net = make("num_output: 4 kernel_size: 3")
    predictor = Predictor(net)
    x = torch.ones(1, 6, 11, 9)
    before = predictor({"x": x})["y"]
    with torch.no_grad():
        net.layer("c").weight.zero_()
    assert torch.equal(predictor({"x": x})["y"], before)
    bias = net.layer("c").bias.detach()
    fresh = Predictor(net)({"x": x})["y"]
    assert torch.allclose(fresh, bias.view(1, 4, 1, 1).expand_as(fresh))


def test_the_net_is_left_as_it_was():
    net = make("num_output: 4 kernel_size: 3")
    layer = net.layer("c")
    packed = PackedConvolutions(net)
    with packed.applied():
        assert layer.convolve is not F.conv2d
    assert layer.convolve is F.conv2d
    with pytest.raises(ZeroDivisionError), packed.applied():
        _ = 1 / 0
    assert layer.convolve is F.conv2d
    net(torch.ones(1, 6, 11, 9))["y"].sum().backward()
    assert layer.weight.grad is not None


def test_other_layers_are_not_packed():
    for net in (
        make("num_output: 4 kernel_size: 3", (1, 6, 11)),
        make("num_output: 4 kernel_size: 3").double(),
    ):
        convolve = net.layer("c").convolve
        with PackedConvolutions(net).applied():
            assert net.layer("c").convolve is convolve


def test_an_empty_batch():
    net = make("num_output: 4 kernel_size: 3")
    with torch.inference_mode(), PackedConvolutions(net).applied():
        assert net(torch.empty(0, 6, 11, 9))["y"].shape == (0, 4, 9, 7)


def test_another_thread_while_a_kernel_is_packed(monkeypatch):
    """It comes with the new size, too, before the first thread has its kernel."""
    weight, x = torch.randn(8, 6, 3, 3), torch.randn(2, 6, 11, 9)
    packed, reorder = PackedKernel(), torch._C._nn.mkldnn_reorder_conv2d_weight
    rest = (weight, None, (1, 1), (1, 1), (1, 1), 1)
    between = []

    def reordered(*args):
        if not between:
            between.append(None)
            between[0] = packed(x, *rest)
        return reorder(*args)

    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", reordered)
    found = packed(x, *rest)
    expected = F.conv2d(x.double(), weight.double(), None, 1, 1)
    for ours in (found, between[0]):
        assert (ours - expected).norm() < 1e-5 * expected.norm()
