from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.errors import SphereFaceError
from sphereface.solver.distributed import Place, RankGroup, devices_of, torchrun_place
from sphereface.solver.signals import Action
from sphereface.solver.training import TrainOptions, train
from sphereface.weights import load_weights


@pytest.mark.slow
@pytest.mark.parametrize("iter_size", [1, 2])
def test_two_ranks_are_one_process_with_the_double_batch(tmp_path, capfd, iter_size):
    models, losses = [], []
    for ranks, batch in ((1, 16), (2, 8)):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        more = f"max_iter: 12 display: 4 iter_size: {iter_size}"
        solver = write_training(folder, more, batch)
        train(TrainOptions(str(solver), gpu="none", ranks=ranks))
        models.append(load_weights(folder / "tiny_iter_12.caffemodel"))
        log = capfd.readouterr().err
        # Rank 0 alone logs; loss and lambda are those of the one process.
        losses.append(re.findall(r"Iteration \d+.*, loss = (\S+)|lambda = (\S+)", log))
    assert len(losses[0]) == 7
    values = [[float(a or b) for a, b in found] for found in losses]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-4)
    assert models[0].keys() == models[1].keys()
    for name, blobs in models[0].items():
        for one, two in zip(blobs, models[1][name], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_ranks_resume_bit_for_bit(tmp_path):
    solver = str(write_training(tmp_path, "max_iter: 12 snapshot: 5"))
    end = tmp_path / "tiny_iter_12.caffemodel"
    train(TrainOptions(solver, gpu="none", ranks=2))
    whole = load_weights(end)
    end.unlink()
    state = str(tmp_path / "tiny_iter_5.solverstate")
    train(TrainOptions(solver, gpu="none", ranks=2, snapshot=state))
    for name, blobs in load_weights(end).items():
        for one, two in zip(blobs, whole[name], strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_an_error_of_a_rank_is_told_as_in_one_process(tmp_path):
    solver = write_training(tmp_path, "max_iter: 50")
    (tmp_path / "1_3.png").write_bytes(b"no picture")
    with pytest.raises(SphereFaceError, match=r"list.txt:14.*1_3.png"):
        train(TrainOptions(str(solver), gpu="none", ranks=2))


def test_devices():
    assert devices_of(None) == [""]
    assert devices_of("none", 3) == ["cpu"] * 3
    with pytest.raises(SphereFaceError, match="--ranks: 2; expected 1 or more, with --gpu none"):
        devices_of(None, 2)
    with pytest.raises(SphereFaceError, match='--gpu: "99"'):
        devices_of("99")
    if not torch.cuda.is_available():
        with pytest.raises(SphereFaceError, match="torch sees no CUDA device; expected none"):
            devices_of("all")


def test_the_place_that_torchrun_gives(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert torchrun_place("none") is None
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert torchrun_place("none") == Place(3, 4, "cpu")


def test_one_process_has_nobody_to_agree_with():
    with RankGroup(Place()) as group:
        tensor = torch.ones(3)
        group.average([tensor])
        assert (group.share(7), group.agree(Action.STOP)) == (7, Action.STOP)
        assert tensor.tolist() == [1, 1, 1]
