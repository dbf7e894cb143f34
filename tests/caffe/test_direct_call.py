from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from sphereface.caffe import load
from sphereface.caffe.direct_call import direct_calls, is_watched

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "twice" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
layer { name: "add" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }
"""


@pytest.mark.parametrize(
    "watch",
    [
        lambda m: m.register_forward_hook(lambda *_: None),
        lambda m: m.register_forward_pre_hook(lambda *_: None),
        lambda m: m.register_full_backward_hook(lambda *_: None),
        lambda m: m.register_full_backward_pre_hook(lambda *_: None),
    ],
)
def test_what_is_watched_is_called_as_a_module(watch):
    first, second = nn.ReLU(), nn.Tanh()
    assert not is_watched(first)
    assert direct_calls([first, second]) == [first.forward, second.forward]
    handle = watch(first)
    assert direct_calls([first, second]) == [first, second.forward]
    handle.remove()
    assert direct_calls([first, second]) == [first.forward, second.forward]


def test_a_call_that_replaces_torchs_is_made(monkeypatch):
    module = nn.ReLU()
    monkeypatch.setattr(nn.ReLU, "__call__", lambda self, x: x - 1)
    assert direct_calls([module]) == [module]
    monkeypatch.undo()
    call = nn.Module.__call__  # as torch.fx's tracer does
    monkeypatch.setattr(nn.Module, "__call__", lambda self, x: call(self, x))
    assert direct_calls([module]) == [module]


def test_a_compiled_module_runs_its_compiled_form(dynamo):
    module = nn.ReLU()
    module.compile(backend="eager")
    assert direct_calls([module]) == [module]


def test_hooks_of_all_modules_see_the_layers_of_a_net():
    net = load(NET)
    seen = []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        net(torch.zeros(2, 3))
    finally:
        handle.remove()
    assert seen == ["Power", "Power", "Net"]


def test_hooks_of_a_layer_change_what_the_next_one_reads():
    net = load(NET)
    x = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(net(x)["z"], 2 * x + 1)
    handle = net.layer("twice").register_forward_hook(lambda layer, x, y: 10 * y)
    torch.testing.assert_close(net(x)["z"], 20 * x + 1)
    handle.remove()
    torch.testing.assert_close(net(x)["z"], 2 * x + 1)


def test_a_layer_may_be_replaced():
    net = load(NET)
    net.twice = nn.Identity()
    x = torch.ones(2, 3)
    torch.testing.assert_close(net(x)["z"], x + 1)
