from __future__ import annotations

import io
from types import SimpleNamespace

import torch

from sphereface.caffe import load
from sphereface.solver.live import LiveLine
from sphereface.solver.records import IterationRecord

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "data" bottom: "label"
        top: "fc6" top: "lambda"
        margin_inner_product_param { num_output: 7 } }
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def solver(display=10):
    param = SimpleNamespace(max_iter=200, display=display)
    return SimpleNamespace(iter=100, param=param, net=load(NET, phase="TRAIN"))


def run(stream, display=10, ranks=1):
    clock = Clock()
    live = LiveLine(stream, ranks, clock)
    for number in range(100, 110):
        live.on_forward(solver(display))
        clock.now += 0.7
        outputs = {"lambda": torch.tensor([45.25]), "loss": torch.tensor(2.0)}
        live.on_iteration(
            IterationRecord(
                iteration=number,
                rate=0.01,
                display=number % 10 == 0,
                samples=32,
                outputs=outputs,
                loss_weights={},
                losses=[torch.tensor(2.0)],
            )
        )
    return live


def test_the_line_of_a_terminal():
    stream = Terminal()
    run(stream)
    # 10 iterations in 7 seconds, 90 to go: 63 seconds.
    assert stream.getvalue().split("\r\x1b[K")[-1] == (
        "training: 110/200 (55 %), loss 2, lambda 45.25, lr 0.01, 46 img/s, 1 min 03 s left"
    )


def test_several_ranks_take_several_batches():
    stream = Terminal()
    run(stream, ranks=2)
    assert "91 img/s" in stream.getvalue()


def test_lines_of_others_go_above_it():
    stream = Terminal()
    live = run(stream)
    before = stream.getvalue()
    live.write("Iteration 110\n")
    line = before.split("\r\x1b[K")[-1]
    assert stream.getvalue() == f"{before}\r\x1b[KIteration 110\n{line}"
    live.close()
    assert stream.getvalue().endswith(f"{line}\r\x1b[K")


def test_in_a_pipe_the_log_says_it():
    stream = io.StringIO()
    live = run(stream)
    live.write("Iteration 110\n")
    live.close()
    assert stream.getvalue() == "Iteration 110\n"


def test_in_a_pipe_without_a_log_there_are_plain_lines():
    stream = io.StringIO()
    run(stream, display=0)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("training: 108/200 (54 %), loss 2, lambda 45.25")
