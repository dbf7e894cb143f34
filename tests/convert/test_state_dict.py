"""A net's state dict, and errors that name keys, nearest names and shapes."""

from __future__ import annotations

import pytest
import torch

from reference.layer_examples import inputs
from sphereface.caffe import load
from sphereface.checkpoints import read_state_dict, write_state_dict
from sphereface.convert.state_dict import load_state_dict, net_state
from sphereface.errors import SphereFaceError

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 8, 8] } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "fc5" type: "InnerProduct" bottom: "conv1" top: "fc5"
        inner_product_param { num_output: 5 } }
"""


def test_file_and_back(build, tmp_path):
    net, other = build(NET), load(NET)
    write_state_dict(net_state(net), tmp_path / "net.pt")
    plain = torch.load(tmp_path / "net.pt", weights_only=True)
    assert type(plain) is dict
    assert list(plain) == [
        "conv1.weight", "conv1.bias", "bn1.mean", "bn1.variance", "bn1.scale_factor",
        "fc5.weight", "fc5.bias",
    ]  # fmt: skip
    load_state_dict(other, read_state_dict(tmp_path / "net.pt"))
    x = inputs(net)[0]
    assert torch.equal(other(x)["fc5"], net(x)["fc5"])
    assert net(x)["fc5"].abs().max() > 0


def test_half_precision_values_are_taken(tmp_path):
    net = load(NET)
    state = {key: torch.full_like(value, 0.5).half() for key, value in net_state(net).items()}
    load_state_dict(net, state)
    assert net.layer("fc5").weight.dtype == torch.float32
    assert (net.layer("fc5").weight == 0.5).all()


def test_every_mismatch_is_told_and_nothing_is_changed():
    net = load(NET)
    before = {key: value.clone() for key, value in net_state(net).items()}
    state = {key: value + 1 for key, value in before.items()}
    state["conv_1.weight"] = state.pop("conv1.weight")
    del state["bn1.variance"]
    state["fc5.weight"] = torch.zeros(5, 7)
    state["fc5.bias"] = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(SphereFaceError) as caught:
        load_state_dict(net, state, "net.pt")
    message = str(caught.value)
    assert message.startswith(
        'net.pt: no "conv1.weight" (4, 3, 3, 3) (did you mean "conv_1.weight"?); '
        'no "bn1.variance" (4)'
    )
    assert 'unexpected "conv_1.weight" (4, 3, 3, 3) (did you mean "conv1.weight"?)' in message
    assert '"fc5.weight" has shape (5, 7) in the file and (5, 144) in the net' in message
    assert '"fc5.bias" is torch.int64, in the net torch.float32' in message
    for key, value in net_state(net).items():
        assert torch.equal(value, before[key])


def test_counters_may_be_missing():
    net = load(
        'input: "x" input_shape { dim: 2 dim: 3 }\ninput: "l" input_shape { dim: 2 }\n'
        'layer { name: "fc6" type: "MarginInnerProduct" bottom: "x" bottom: "l" top: "fc6"'
        " margin_inner_product_param { num_output: 4 } }",
        phase="TRAIN",
    )
    assert "fc6.iteration" in net.state_dict()
    load_state_dict(net, {"fc6.weight": torch.ones(4, 3)})
    assert (net.layer("fc6").weight == 1).all()


def test_counters_that_the_other_phase_saves_are_left_out():
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"'
        " inner_product_param { num_output: 4 } }\n"
        'layer { name: "scaler" type: "GradientScaler" bottom: "fc" top: "y"'
        " gradient_scaler_param { max_iter: 9 } }"
    )
    train, test = (load(text, phase=phase) for phase in ("TRAIN", "TEST"))
    train.layer("fc").weight.data.fill_(2)
    train(torch.ones(2, 3))
    state = net_state(train)
    assert int(state["scaler.iteration"]) == 1
    load_state_dict(test, state)
    assert (test.layer("fc").weight == 2).all()
    assert int(test.layer("scaler").iteration) == 0
    load_state_dict(train, net_state(test))
    assert int(train.layer("scaler").iteration) == 1
    with pytest.raises(SphereFaceError, match=r'unexpected "scaler\.count"'):
        load_state_dict(test, {**state, "scaler.count": torch.zeros(())})
