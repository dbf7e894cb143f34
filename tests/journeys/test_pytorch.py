"""docs/journeys/pytorch.md, run from its first command to its last."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np
import torch

from journey_page import blocks_of, run_page

SIZE = (32, 28)


def test_every_command_of_the_page(people, capfd, monkeypatch):
    people("people", ("Ann", "Bob", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"), 12, SIZE)
    people("others", ("Ida", "Joe", "Kim", "Lea"), 6, SIZE)
    monkeypatch.setattr(sys, "argv", ["page"])
    blocks = blocks_of("pytorch.md")
    run_page(blocks, capfd, monkeypatch)

    state = torch.load("run.pt", weights_only=True)
    assert int(state["loss"]["iteration"]) == state["step"] == 120
    # In one go it ends where the interrupted run ended.
    Path("run.pt").rename("resumed.pt")
    command = next(block for block in blocks if block.text.startswith("python train.py"))
    once = [type(command)("sh", "", "python train.py 120\n", command.line)]
    run_page(once, capfd, monkeypatch)
    whole = torch.load("run.pt", weights_only=True)
    for name, value in whole["net"].items():
        torch.testing.assert_close(value, state["net"][name], rtol=1e-4, atol=1e-5)
    with np.load("features.npz") as features:
        assert features["features"].shape == (24, 64)
        assert features["path"][0].startswith("Ida/")


def test_the_first_loss_is_that_of_a_guess(people, capfd, monkeypatch):
    people("people", ("Ann", "Bob", "Cleo", "Dan"), 12, SIZE)
    run = next(block for block in blocks_of("pytorch.md") if block.file == "train.py")
    Path("train.py").write_text(run.text)
    monkeypatch.setattr(sys, "argv", ["train.py", "1"])
    exec(compile(run.text, "train.py", "exec"), {"__name__": "__main__"})
    (loss,) = re.findall(r"step 0: loss ([\d.]+)", capfd.readouterr().out)
    assert abs(float(loss) - math.log(4)) < 0.5
