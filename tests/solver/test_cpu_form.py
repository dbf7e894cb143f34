from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reference.tiny_training import write_training
from sphereface import ops
from sphereface.caffe import load
from sphereface.solver import Solver
from sphereface.solver.cpu_form import to_cpu_form
from sphereface.solver.distributed import Place, RankGroup
from sphereface.solver.modes import Mode, ModeNets
from sphereface.solver.nets import SolverNets

NET = """
input: "x" input_shape { dim: [3, 16, 9, 8] }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 20 kernel_size: 3 pad: 1 stride: 2
                            weight_filler { type: "xavier" } } }
layer { name: "slope" type: "PReLU" bottom: "conv" top: "slope" }
layer { name: "deep" type: "Convolution" bottom: "slope" top: "deep"
        convolution_param { num_output: 4 kernel_size: 3 group: 2
                            weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "deep" top: "fc"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def gradients(net, x):
    x = x.clone().requires_grad_()
    (net({"x": x})["sum"]).sum().backward()
    return [x.grad, *(blob.grad for blob in net.parameters())]


def test_gradients_are_those_of_the_net_in_float64():
    torch.manual_seed(0)
    net, exact = (load(NET, phase="TRAIN") for _ in range(2))
    exact.load_state_dict(net.state_dict())
    to_cpu_form(net)
    kernel = net.layer("conv").weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    x = torch.randn(3, 16, 9, 8)
    expected = gradients(exact.double(), x.double())
    for found, true in zip(gradients(net, x), expected, strict=True):
        assert found.shape == true.shape
        assert float((found.double() - true).norm() / true.norm()) < 2e-6


def test_bfloat16_is_as_near_to_float64_as_torchs():
    torch.manual_seed(0)
    net, plain, exact = (load(NET, phase="TRAIN") for _ in range(3))
    for other in (plain, exact):
        other.load_state_dict(net.state_dict())
    to_cpu_form(net)
    x = torch.randn(3, 16, 9, 8)
    expected = gradients(exact.double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        halves = zip(gradients(net, x), gradients(plain, x), strict=True)
    for (own, torchs), true in zip(halves, expected, strict=True):
        errors = [float((half.double() - true).norm() / true.norm()) for half in (own, torchs)]
        assert own.dtype == torch.float32
        assert errors[0] < 1.2 * errors[1] + 1e-3


@pytest.mark.parametrize(
    ("nets", "changed"),
    [
        (SolverNets, True),
        (lambda: ModeNets(Mode(), RankGroup(Place())), True),
        (lambda: ModeNets(Mode(compile=True), RankGroup(Place())), False),
    ],
)
def test_who_trains_on_the_cpu_has_it(tmp_path, nets, changed):
    solver = Solver(str(write_training(tmp_path, "")), nets=nets())
    conv = solver.net.layer("conv")
    assert (conv.convolve is ops.conv2d) == changed
    assert (conv.convolve is F.conv2d) != changed
