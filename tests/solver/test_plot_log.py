from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver.plot_log import check_picture, log_figure, save_figure
from sphereface.solver.read_log import TrainingLog


def log(name="a.log", **train):
    return TrainingLog(name, "net", {key: list(curve) for key, curve in train.items()})


def drawn(axes):
    return {line.get_label(): np.stack(line.get_data(), 1).tolist() for line in axes.get_lines()}


def test_a_panel_for_each_kind_of_curve():
    training = log(
        loss=[(0, 3), (10, 2)], softmax_loss=[(0, 3.5), (10, 1.5)], lr=[(0, 0.1), (10, 0.01)]
    )
    training.train["lambda"] = [(0, 1000), (10, 450)]
    training.tests = {0: {"loss": [(0, 4)], "accuracy": [(0, 0.25)]}}
    loss, lambda_, rate, outputs = log_figure([training]).axes
    assert drawn(loss) == {
        "loss": [[0, 3], [10, 2]],
        "softmax_loss": [[0, 3.5], [10, 1.5]],
        "test #0 loss": [[0, 4]],
    }
    assert drawn(lambda_) == {"lambda": [[0, 1000], [10, 450]]}
    assert drawn(rate) == {"lr": [[0, 0.1], [10, 0.01]]}
    assert drawn(outputs) == {"test #0 accuracy": [[0, 0.25]]}
    assert [axes.get_yscale() for axes in (loss, lambda_, rate)] == ["linear", "log", "log"]


def test_an_output_that_is_the_loss_is_drawn_once():
    (axes,) = log_figure([log(loss=[(0, 3)], softmax_loss=[(0, 3)])]).axes
    assert list(drawn(axes)) == ["loss"]


def test_several_logs_over_each_other():
    (axes,) = log_figure([log("x/a.log", loss=[(0, 3)]), log("b.csv", loss=[(0, 2)])]).axes
    assert drawn(axes) == {"loss (a)": [[0, 3]], "loss (b)": [[0, 2]]}


def test_a_rate_of_zero_is_drawn_linearly():
    assert log_figure([log(lr=[(0, 0.1), (1, 0)])]).axes[0].get_yscale() == "linear"


def test_files(tmp_path):
    figure = log_figure([log(loss=[(0, 3)])])
    save_figure(figure, tmp_path / "a.png")
    save_figure(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    with pytest.raises(SphereFaceError, match=r"a.gif: no picture's name; expected NAME.png, .svg"):
        check_picture("a.gif")
    with pytest.raises(SphereFaceError, match="the folder does not exist"):
        check_picture(tmp_path / "none" / "a.png")
