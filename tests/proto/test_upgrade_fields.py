from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.proto.upgrade import upgrade_net, upgrade_solver

RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'


def test_input_shape():
    net = text.read(
        'input: "data" input: "label" input_shape { dim: [2, 3] } input_shape { dim: 2 }' + RELU
    )
    upgraded = upgrade_net(net)
    assert upgraded.message == text.read(
        'layer { name: "input" type: "Input" top: "data" top: "label" '
        "input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }" + RELU
    )
    assert upgraded.changes == ("input fields to an Input layer",)
    assert upgraded.origin == (-1, 0)


def test_input_dim_of_two_inputs():
    net = text.read('input: "a" input: "b" input_dim: [1,2,3,4,5,6,7,8]' + RELU)
    shapes = upgrade_net(net).message.layer[0].input_param.shape
    assert [list(s.dim) for s in shapes] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_input_shape_wins_over_input_dim():
    net = text.read('input: "a" input_shape { dim: 9 } input_dim: [1,2,3,4]')
    upgraded = upgrade_net(net).message
    assert upgraded == text.read(
        'layer { name: "input" type: "Input" top: "a" input_param { shape { dim: 9 } } }'
    )


def test_input_without_shape_is_dropped():
    upgraded = upgrade_net(text.read('input: "data"' + RELU))
    assert upgraded.message == text.read(RELU)
    assert upgraded.origin == (0,)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("input_dim: [1,2,3]", "1 input and 3 input_dim; expected 4 input_dim"),
        ("input_shape {} input_shape {}", "1 input and 2 input_shape; expected 1 input_shape"),
    ],
)
def test_wrong_number_of_dimensions(inputs, message):
    with pytest.raises(SphereFaceError, match=message):
        upgrade_net(text.read(f'input: "data" {inputs}'))


def batch_norm(params):
    return text.read(f'layer {{ name: "bn" type: "BatchNorm" {params} }}')


def test_batch_norm_statistics_are_frozen():
    old = batch_norm('param { lr_mult: 1 name: "m" } param { lr_mult: 0 } param { }')
    upgraded = upgrade_net(old)
    zero = "lr_mult: 0 decay_mult: 0"
    assert upgraded.message == batch_norm(
        f'param {{ name: "m" {zero} }} param {{ {zero} }} param {{ {zero} }}'
    )
    assert upgraded.changes == ("multipliers of BatchNorm's statistics to 0",)


@pytest.mark.parametrize(
    "params",
    [
        "",
        "param { lr_mult: 1 }",
        "param { lr_mult: 0 decay_mult: 0 }" * 3,
        "param { lr_mult: 1 }" * 4,
    ],
)
def test_batch_norm_of_today_stays(params):
    upgraded = upgrade_net(batch_norm(params))
    assert upgraded.message == batch_norm(params)
    assert upgraded.changes == ()


def test_three_params_of_another_type_stay():
    net = text.read('layer { type: "Scale" param {} param {} param {} }')
    assert upgrade_net(net).message == net


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_type(old, new):
    solver = text.read(f"base_lr: 0.1 solver_type: {old}", "SolverParameter")
    upgraded = upgrade_solver(solver)
    assert upgraded.message == text.read(f'base_lr: 0.1 type: "{new}"', "SolverParameter")
    assert upgraded.changes == ("solver_type to type",)
    assert solver.HasField("solver_type")


def test_solver_of_today_stays():
    solver = text.read('type: "Adam" regularization_type: "L1"', "SolverParameter")
    upgraded = upgrade_solver(solver)
    assert upgraded.message == solver
    assert upgraded.changes == ()


def test_two_solver_types_are_an_error():
    solver = text.read('type: "Adam" solver_type: ADAM', "SolverParameter")
    with pytest.raises(SphereFaceError, match='the old "solver_type" and "type" are both given'):
        upgrade_solver(solver)
