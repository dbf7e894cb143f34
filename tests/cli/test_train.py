from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.cli.main import main
from sphereface.solver import training
from sphereface.weights import load_weights

PYTHON = Path(__file__).parents[2] / "python"


def test_options(monkeypatch):
    calls = []
    monkeypatch.setattr(training, "train", calls.append)
    assert main(["train", "--solver", "s.prototxt"]) == 0
    flags = "--gpu 0,1 --snapshot a.solverstate --level 2 --stage x --stage y --sigint_effect none"
    more = "--sighup-effect stop --log_dir l --csv c.csv --tensorboard t --amp bf16 --compile"
    who = "--verify p.txt --verify-root crops --verify-interval 7 --verify-blob fc5"
    rest = "--channels-last --no-fused-loss --workers 3 --skip-bad-images --allow-python m"
    assert main(["train", "--solver", "s", *f"{flags} {more} {who} {rest}".split()]) == 0
    assert calls == [
        training.TrainOptions("s.prototxt"),
        training.TrainOptions(
            "s",
            snapshot="a.solverstate",
            gpu="0,1",
            level=2,
            stages=("x", "y"),
            sigint_effect="none",
            sighup_effect="stop",
            mode=training.Mode("bf16", True, True, fuse_loss=False),
            data=training.DataOptions(3, True),
            logs=training.LogOptions("l", "c.csv", "t"),
            allow_python=("m",),
            verify=training.VerifyOptions("p.txt", "crops", 7, "fc5"),
        ),
    ]


def test_options_of_verify_without_it(capsys):
    assert main(["train", "--solver", "s.prototxt", "--verify-root", "crops"]) == 2
    assert "without --verify" in capsys.readouterr().err


def test_bad_input_in_one_line(tmp_path, capsys):
    solver = write_training(tmp_path, "max_iter: 1")
    solver.write_text(solver.read_text().replace("momentum:", "momemtum:"))
    assert main(["train", "--solver", str(solver), "--gpu", "none"]) == 2
    error = capsys.readouterr().err
    assert 'did you mean "momentum"?' in error
    assert error.count("\n") == 1


# Sums are bit-equal only in the same order, which the number of threads sets.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Training:
    """A training in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sphereface", "train", "--gpu", "none", *arguments],
            env={**os.environ, "PYTHONPATH": str(PYTHON), **ONE_THREAD},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []

    def until(self, text: str) -> None:
        """Read the log until a line holds `text`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if text in line:
                return
        pytest.fail(f"no {text!r} in:\n{''.join(self.log)}")

    def end(self) -> int:
        """Read the rest and return the exit code."""
        assert self.process.stderr is not None
        self.log += self.process.stderr
        self.process.stderr.close()
        return self.process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_hangup_snapshots_and_an_interrupt_stops(tmp_path, ranks):
    solver = str(write_training(tmp_path, "max_iter: 100000 display: 1"))
    training = Training("--solver", solver, "--ranks", str(ranks))
    training.until("Iteration 3 ")
    training.process.send_signal(signal.SIGHUP)
    training.until("Snapshotting solver state")
    training.until(" iter/s")  # it goes on
    first = list(tmp_path.glob("*.solverstate"))
    assert len(first) == 1
    training.process.send_signal(signal.SIGINT)
    assert training.end() == 0
    assert "Optimization stopped early." in training.log[-1]
    second = set(tmp_path.glob("*.solverstate")) - set(first)
    assert len(second) == 1
    done = int(second.pop().stem.split("_")[-1])

    if ranks == 1:
        # Where it was interrupted, on it goes as if nothing had been.
        text = Path(solver).read_text()
        Path(solver).write_text(text.replace("100000", str(done + 20)))
        state = str(tmp_path / f"tiny_iter_{done}.solverstate")
        assert main(["train", "--solver", solver, "--gpu", "none", "--snapshot", state]) == 0
        end = tmp_path / f"tiny_iter_{done + 20}.caffemodel"
        resumed = load_weights(end)
        end.unlink()
        assert main(["train", "--solver", solver, "--gpu", "none"]) == 0
        for name, blobs in load_weights(end).items():
            for one, two in zip(blobs, resumed[name], strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_termination_snapshots_and_says_so(tmp_path, ranks):
    solver = str(write_training(tmp_path, "max_iter: 100000 display: 1"))
    training = Training("--solver", solver, "--ranks", str(ranks))
    training.until("Iteration 3 ")
    training.process.send_signal(signal.SIGTERM)
    assert training.end() == 143
    assert "Optimization stopped early." in training.log[-1]
    assert len(list(tmp_path.glob("*.solverstate"))) == 1


def test_a_log_whose_reader_leaves_ends_with_a_snapshot(tmp_path):
    solver = str(write_training(tmp_path, "max_iter: 100000 display: 1"))
    training = Training("--solver", solver)
    training.until("Iteration 3 ")
    training.process.stderr.close()
    assert training.process.wait(timeout=60) == 141
    assert len(list(tmp_path.glob("*.solverstate"))) == 1


def test_a_training_without_streams(tmp_path):
    solver = str(write_training(tmp_path, "max_iter: 3 display: 1"))
    command = (
        f'exec "{sys.executable}" -m sphereface train --gpu none --solver "{solver}" 0<&- 1>&- 2>&-'
    )
    env = {**os.environ, "PYTHONPATH": str(PYTHON), **ONE_THREAD}
    assert (
        subprocess.run(["sh", "-c", f"{command} 0<&- 1>&- 2>&-"], env=env, check=False).returncode
        == 0
    )
    assert len(list(tmp_path.glob("*.solverstate"))) == 1


@pytest.mark.slow
def test_a_bad_image_of_another_rank_ends_with_a_snapshot(tmp_path):
    solver = str(write_training(tmp_path, "max_iter: 100000 display: 1"))
    training = Training("--solver", solver, "--ranks", "2")
    training.until("Iteration 3 ")
    for image in tmp_path.glob("1_*.png"):
        image.write_bytes(b"no picture")
    assert training.end() == 2
    assert re.search(r"1_\d\.png", training.log[-1])
    assert len(list(tmp_path.glob("*.solverstate"))) == 1


@pytest.mark.slow
def test_torchrun(tmp_path, free_port):
    solver = str(write_training(tmp_path, "max_iter: 4 display: 2"))
    ranks = []
    for rank in (0, 1):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": free_port}
        env = {
            **os.environ,
            **{name: str(value) for name, value in place.items()},
            "MASTER_ADDR": "127.0.0.1",
            "PYTHONPATH": str(PYTHON),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "sphereface", "train", "--solver", solver, "--gpu", "none"]
        ranks.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    logs = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], logs
    assert "2 processes" in logs[0]
    assert "Iteration" not in logs[1]
    assert (tmp_path / "tiny_iter_4.solverstate").exists()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
