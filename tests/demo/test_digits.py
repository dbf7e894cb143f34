from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sphereface.demo import digits as demo
from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult

SHORT = demo.Recipe(epochs=12)


def of_classes(classes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    images, label = demo.digits()
    chosen = np.isin(label, classes)
    return images[chosen], torch.from_numpy(np.searchsorted(classes, label[chosen]))


def test_the_images() -> None:
    images, label = demo.digits()
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (-1, 1)
    assert np.bincount(label).min() > 170


@pytest.mark.parametrize("loss", demo._LOSSES.values(), ids=demo._LOSSES)
def test_training_learns_and_repeats(loss: Any) -> None:
    images, label = of_classes([1, 4, 7])
    net, head = demo.train(images, label, loss, seed=3, recipe=SHORT)
    again, _ = demo.train(images, label, loss, seed=3, recipe=SHORT)
    features = demo.embed(net, images)
    np.testing.assert_array_equal(features, demo.embed(again, images))
    cosine = features @ normalize(head.weight.detach()).numpy().T
    assert (cosine.argmax(axis=1) == label.numpy()).mean() > 0.95
    if isinstance(loss, int):
        assert head.iteration == SHORT.epochs * (len(images) // SHORT.batch)


def test_verification_of_classes_that_were_trained_is_nearly_perfect() -> None:
    images, label = of_classes([0, 1, 4, 7])
    net, _ = demo.train(images, label, 4, seed=0, recipe=demo.Recipe(epochs=12))
    untrained, _ = demo.train(images, label, 4, seed=0, recipe=demo.Recipe(epochs=0))
    result = demo.verify(net, images, label.numpy(), seed=0)
    assert len(result.accuracy) == 10
    assert result.mean > 0.97
    assert demo.verify(untrained, images, label.numpy(), seed=0).mean < 0.9


def test_whole_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_VERIFIED", demo.Recipe(epochs=1))
    monkeypatch.setattr(demo, "_PICTURE", demo.Recipe(features=2, epochs=1))
    threads = torch.get_num_threads()
    demo.run_digits(tmp_path / "new" / "picture.png", seeds=2)
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr()
    rows = ("softmax (m=1)", "A-Softmax (m=4)", "CosFace", "ArcFace")
    assert all(f"\n{name} " in output.out for name in rows)
    assert "(the same in every fold)" in output.out
    assert list((tmp_path / "new").glob("digits_iter_*.caffemodel"))
    assert "10/10 (100 %)" in output.err
    assert torch.get_num_threads() == threads


def split(seed: int, *accuracies: list[float]) -> demo.Split:
    results = {
        name: FoldResult(np.arange(2), np.array(values), np.zeros(2), np.zeros(4), np.ones(4, bool))
        for name, values in zip(("softmax (m=1)", "ArcFace"), accuracies, strict=True)
    }
    return demo.Split(seed, range(6), range(6, 10), results)


def test_table() -> None:
    lines = demo.table([split(0, [0.7, 0.8], [0.8, 0.9]), split(1, [0.6, 0.6], [0.55, 0.55])])
    head, softmax, arcface = (" ".join(line.split()) for line in lines.splitlines()[2:5])
    assert head == "loss seed 0 seed 1 mean to softmax"
    assert softmax == "softmax (m=1) 75.00 60.00 67.50"
    assert arcface == "ArcFace 85.00 55.00 70.00 +2.50 +- 7.50"
    assert lines.endswith("0: 6789, 1: 6789")


def test_table_of_one_split_has_no_error_of_the_mean() -> None:
    lines = demo.table([split(0, [0.7, 0.8], [0.8, 0.9])]).splitlines()
    assert lines[4].endswith("85.00   +10.00")


def test_bad_options_fail_before_training(tmp_path: Path) -> None:
    with pytest.raises(SphereFaceError, match="demo: 0 seeds; expected at least one"):
        demo.run_digits(tmp_path / "a.png", seeds=0)
    with pytest.raises(SphereFaceError, match="picture's name is .*a.jpg; expected NAME.png"):
        demo.run_digits(tmp_path / "a.jpg")
