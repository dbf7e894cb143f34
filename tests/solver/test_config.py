from __future__ import annotations

from pathlib import Path

import pytest

from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_names, prototxt_path
from sphereface.solver import read_solver

MINIMUM = 'base_lr: 0.1 lr_policy: "fixed"'
NET = 'name: "n" layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }'


@pytest.fixture
def net(folder):
    (folder / "net.prototxt").write_text(NET)
    return 'net: "net.prototxt"'


@pytest.mark.parametrize("name", [n for n in prototxt_names() if n.endswith("_solver")])
def test_packaged_solvers(name, folder):
    path = prototxt_path(name)
    file = read_solver(path)
    assert Path(file.train.file.source) == (
        path.parent / f"{name.removesuffix('_solver')}_train.prototxt"
    )
    assert file.param.snapshot_prefix == name.removesuffix("_solver")
    assert file.test == ()


def test_net_is_looked_for_here_and_beside_the_solver(folder):
    (folder / "sub").mkdir()
    solver = folder / "sub" / "s.prototxt"
    solver.write_text(f'net: "net.prototxt" {MINIMUM}')
    with pytest.raises(SphereFaceError, match=r's.prototxt: net "net.prototxt" not found'):
        read_solver(solver)
    (folder / "sub" / "net.prototxt").write_text(NET)
    assert Path(read_solver(solver).train.file.source) == folder / "sub" / "net.prototxt"
    (folder / "net.prototxt").write_text(NET)
    assert Path(read_solver(solver).train.file.source).resolve() == folder / "net.prototxt"


def test_snapshot_prefix_is_completed_as_by_caffe(net, folder):
    solver = folder / "my.solver.prototxt"
    solver.write_text(f"{net} {MINIMUM}")
    assert read_solver(solver).param.snapshot_prefix == str(folder / "my.solver")
    (folder / "out").mkdir()
    solver.write_text(f'{net} {MINIMUM} snapshot_prefix: "out"')
    assert read_solver(solver).param.snapshot_prefix == "out/my.solver"
    assert not read_solver(f"{net} {MINIMUM}").param.HasField("snapshot_prefix")


def test_old_solver_type_is_upgraded(net):
    file = read_solver(f"{net} {MINIMUM} solver_type: ADADELTA")
    assert file.param.type == "AdaDelta"
    assert file.changes == ("solver_type to type",)


def test_states_are_merged(folder):
    (folder / "net.prototxt").write_text(NET + ' state { level: 2 stage: "own" }')
    text = (
        f'net: "net.prototxt" {MINIMUM} train_state {{ stage: "a" }} test_interval: 5 '
        'test_iter: 1 test_iter: 2 test_state { level: 3 } test_state { stage: "b" stage: "c" }'
    )
    file = read_solver(text)
    assert (file.train.phase, file.train.level, file.train.stages) == ("TRAIN", 2, ("a",))
    found = [(net.phase, net.level, net.stages) for net in file.test]
    assert found == [("TEST", 3, ()), ("TEST", 2, ("b", "c"))]


def test_test_nets_in_caffes_order(folder):
    for name in ("net", "first", "second"):
        (folder / f"{name}.prototxt").write_text(NET)
    text = (
        f'net: "net.prototxt" test_net: "first.prototxt" test_net: "second.prototxt" {MINIMUM} '
        'test_net_param { name: "inside" } test_interval: 5 '
        "test_iter: 1 test_iter: 1 test_iter: 1 test_iter: 1 test_iter: 1"
    )
    nets = [net.file for net in read_solver(text).test]
    assert nets[0].net.name == "inside"
    assert nets[3] is nets[4]  # a file is read once
    assert [Path(net.source).name for net in nets[1:]] == [
        "first.prototxt", "second.prototxt", "net.prototxt", "net.prototxt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (MINIMUM + ' type: "Adma"', 'unknown solver type "Adma".*did you mean "Adam"'),
        ('lr_policy: "fixed"', "no base_lr"),
        (MINIMUM + " iter_size: 0", "iter_size 0; expected 1 or more"),
        (MINIMUM + " average_loss: 0", "average_loss 0"),
        (MINIMUM + ' regularization_type: "L3"', "L3.*expected L1 or L2"),
        (MINIMUM + " snapshot: 5", "snapshot without snapshot_prefix"),
        (MINIMUM + ' snapshot: 5 snapshot_prefix: "nowhere/x"', "make the folder"),
        (MINIMUM + " test_iter: 1", "test_iter without test_interval"),
        (MINIMUM + ' train_net: "net.prototxt"', "given by net and train_net"),
        (MINIMUM + ' test_net: "net.prototxt"', "0 test_iter values for 1 test nets"),
        (MINIMUM + " test_iter: 1 test_iter: 1 test_interval: 1 test_state {}",
         "1 test_state messages for 2"),
    ],
)  # fmt: skip
def test_what_caffe_refuses(fields, message, net):
    with pytest.raises(SphereFaceError, match=message):
        read_solver(f"{net} {fields}")


def test_no_net_at_all():
    with pytest.raises(SphereFaceError, match="no train net; expected one of net, net_param"):
        read_solver(MINIMUM)


def test_more_test_iters_than_nets(folder):
    (folder / "net.prototxt").write_text(NET)
    with pytest.raises(SphereFaceError, match="1 test_iter values for 0 test nets"):
        read_solver(f'train_net: "net.prototxt" {MINIMUM} test_iter: 1 test_interval: 2')
