from __future__ import annotations

import re

import pytest

from reference.tiny_training import write_training
from sphereface.cli.main import main


@pytest.fixture
def trained(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 20 display: 0 test_iter: 5 test_interval: 20")
    assert main(["train", "--solver", str(solver), "--gpu", "none"]) == 0
    log = capsys.readouterr().err
    return tmp_path, dict(re.findall(r"Test net output #\d+: (\S+) = (\S+)", log))


def test_scores_are_those_of_the_solver(trained, capsys):
    folder, expected = trained
    net, weights = str(folder / "net.prototxt"), str(folder / "tiny_iter_20.caffemodel")
    assert main(["test", net, weights, "--iterations", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    accuracy = [float(line.split()[-1]) for line in lines if re.match(r"Batch \d, accuracy", line)]
    assert len(accuracy) == 5
    # 40 images in 5 batches of 8: each once, in whatever order.
    means = dict(re.findall(r"^(\S+) = (\S+)", "\n".join(lines), re.MULTILINE))
    assert float(means["accuracy"]) == pytest.approx(float(expected["accuracy"]))
    assert float(means["accuracy"]) == pytest.approx(sum(accuracy) / 5, rel=1e-5)
    assert any(re.match(r"loss = \S+ \(\* 1 = \S+ loss\)", line) for line in lines)


def test_weights_of_another_net(trained, capsys):
    folder, _ = trained
    net = folder / "net.prototxt"
    net.write_text(net.read_text().replace("num_output: 6", "num_output: 7"))
    assert main(["test", str(net), str(folder / "tiny_iter_20.caffemodel")]) == 2
    assert "fc5" in capsys.readouterr().err
