from __future__ import annotations

import math

import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.read_log import read_log

# Lines as Caffe's releases wrote them: rate and time came into the display line in 2016.
OLD = """\
I0713 10:00:00.000001  4242 caffe.cpp:185] Using GPUs 0
I0713 10:00:01.000001  4242 solver.cpp:272] Solving SpherefaceNet-20
I0713 10:00:01.100001  4242 solver.cpp:330] Iteration 0, Testing net (#0)
I0713 10:00:02.000001  4242 solver.cpp:397]     Test net output #0: accuracy = 0.0125
I0713 10:00:02.000002  4242 solver.cpp:397]     Test net output #1: softmax_loss = 9.2 (* 1 = 9.2 loss)
I0713 10:00:03.000001  4242 solver.cpp:228] Iteration 0, loss = 9.26609
I0713 10:00:03.000002  4242 solver.cpp:244]     Train net output #0: lambda = 892.857
I0713 10:00:03.000003  4242 solver.cpp:244]     Train net output #1: softmax_loss = 9.26609 (* 1 = 9.26609 loss)
I0713 10:00:03.000004  4242 sgd_solver.cpp:106] Iteration 0, lr = 0.1
I0713 10:05:03.000001  4242 solver.cpp:228] Iteration 100, loss = 8.5
I0713 10:05:03.000002  4242 solver.cpp:244]     Train net output #0: lambda = 76.2195
I0713 10:05:03.000004  4242 sgd_solver.cpp:106] Iteration 100, lr = 0.1
"""  # noqa: E501
NEW = """\
I0713 11:00:03.000001  4242 solver.cpp:218] Iteration 100 (2.31 iter/s, 43s/100 iters), loss = -nan
I0713 11:00:03.000002  4242 solver.cpp:237]     Train net output #0: prob = 0.25
I0713 11:00:03.000002  4242 solver.cpp:237]     Train net output #1: prob = 0.75
I0713 11:00:03.000004  4242 sgd_solver.cpp:105] Iteration 100, lr = 0.01
I0713 11:00:03.000004  4242 solver.cpp:330] Iteration 100, Testing net (#1)
I0713 11:00:03.000004  4242 solver.cpp:380] Test loss: 0.5
I0713 11:00:09.000001  4242 solver.cpp:310] Iteration 200, loss = 1.#QNAN
"""


def test_an_old_log_of_caffe(tmp_path):
    path = tmp_path / "caffe.INFO"
    path.write_text(OLD)
    log = read_log(path)
    assert log.name == "SpherefaceNet-20"
    assert log.train == {
        "loss": [(0, 9.26609), (100, 8.5)],
        "lambda": [(0, 892.857), (100, 76.2195)],
        "softmax_loss": [(0, 9.26609)],
        "lr": [(0, 0.1), (100, 0.1)],
    }
    assert log.tests == {0: {"accuracy": [(0, 0.0125)], "softmax_loss": [(0, 9.2)]}}


def test_a_newer_log_with_nan_and_values_of_one_name(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe no text\n" + NEW.encode())
    log = read_log(path)
    assert [i for i, _ in log.train["loss"]] == [100, 200]
    assert all(math.isnan(value) for _, value in log.train["loss"])
    assert (log.train["prob"], log.train["prob[1]"]) == ([(100, 0.25)], [(100, 0.75)])
    assert log.tests == {1: {"loss": [(100, 0.5)]}}


def test_a_resumed_run_replaces_what_came_after_its_snapshot(tmp_path):
    path = tmp_path / "log"
    lines = [f"solver.cpp:218] Iteration {i}, loss = {v}\n" for i, v in
             [(0, 5), (10, 4), (20, 3), (10, 3.5), (20, 2.5), (30, 2)]]  # fmt: skip
    path.write_text("".join(lines))
    assert read_log(path).train["loss"] == [(0, 5), (10, 3.5), (20, 2.5), (30, 2)]


def test_tables(tmp_path):
    (tmp_path / "a.csv").write_text(
        "iteration,net,seconds,lr,loss,lambda,accuracy\n"
        "0,train,0.1,0.5,2.5,100,\n0,test0,0.2,,2,,0.25\n"
    )
    (tmp_path / "a.jsonl").write_text(
        '{"iteration": 0, "net": "train", "seconds": 0.1, "lr": 0.5, "loss": 2.5, "lambda": 100}\n'
        '{"iteration": 0, "net": "test0", "seconds": 0.2, "loss": 2, "accuracy": 0.25}\n'
        '{"iteration": 1, "net": "train", "loss": null}\n'
    )
    for name in ("a.csv", "a.jsonl"):
        log = read_log(tmp_path / name)
        assert log.train == {"lr": [(0, 0.5)], "loss": [(0, 2.5)], "lambda": [(0, 100)]}
        assert log.tests == {0: {"loss": [(0, 2)], "accuracy": [(0, 0.25)]}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.log", "nothing\n", 'a.log: no iterations in it; expected lines such as "Iteration'),
        ("a.csv", "iteration,net,loss\n0,train,x\n", "a.csv: row 1: no row of a training table"),
        ("a.csv", "a,b\n1,2\n", "row 1: no row of a training table; expected the columns"),
        ("a.jsonl", "[1]\n", "row 1: no row of a training table"),
        ("a.jsonl", "{\n", "row 1: no row of a training table"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SphereFaceError, match=message):
        read_log(tmp_path / name)
