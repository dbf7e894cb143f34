"""A-Softmax against softmax with normalised weights, on scikit-learn's handwritten digits.

Open-set as in the paper: a network learns six classes, pairs of the four others are verified with
LFW's 10-fold protocol. Each seed draws another split of the classes. What differs from the paper:
classes are few, so the embedding is narrower than the number of classes, as it is for faces (512
for 10572).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sphereface.caffe import Layer, Net
from sphereface.demo.digits_training import DigitsRun, Recipe, fresh_process_features
from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult, ten_fold, verification_pairs
from sphereface.extras import require
from sphereface.progress import Progress

if TYPE_CHECKING:
    from sphereface.evaluation.plots import Embedding

__all__ = ["Recipe", "Split", "digits", "embed", "run_digits", "table", "train", "verify"]

_MARGINS = (1, 4)
_TRAINED_CLASSES = 6


_VERIFIED = Recipe()

# The picture is of two features only, which take longer to find their directions.
_PICTURE = Recipe(features=2, epochs=40, lambda_min=0.5)


@dataclass(frozen=True)
class Split:
    """What one seed gives: the classes on either side and a result per margin."""

    seed: int
    trained: Sequence[int]
    unseen: Sequence[int]
    results: dict[int, FoldResult]


def run_digits(out: Path, seeds: int = 12) -> None:
    """Train, verify, print the table and write the picture.

    Parameters
    ----------
    out : Path
        The PNG file; its folder is made.
    seeds : int
        Splits of the classes, 0 to seeds - 1.

    Raises
    ------
    SphereFaceError
        A bad option, or scikit-learn or matplotlib is missing.
    """
    from sphereface.evaluation.plots import embedding_figure, save_png

    require("matplotlib", "demo")  # not found missing after the training
    if seeds < 1:
        raise SphereFaceError(f"{seeds} seeds", where="demo", expected="at least one")
    if out.suffix.lower() != ".png":
        raise SphereFaceError(f"the picture's name is {out}", where="demo", expected="NAME.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    images, label = digits()
    epochs = len(_MARGINS) * (seeds * _VERIFIED.epochs + _PICTURE.epochs)
    with _one_thread(), Progress(epochs, "training, in epochs") as progress:
        splits = [_run_split(images, label, seed, progress) for seed in range(seeds)]
        panels = [_panel(images, label, margin, progress) for margin in _MARGINS]
        note = _resumed(images, label, splits[0], out.parent / "digits")
    print(table(splits))
    print(f"\n{note}")
    save_png(embedding_figure(panels), out)
    print(f"\n2-D embeddings of digits 0 to {_TRAINED_CLASSES - 1}, m=1 beside m=4: {out}")


def digits() -> tuple[Tensor, NDArray[np.int64]]:
    """Return scikit-learn's 1797 images, (N, 1, 8, 8) from -1 to 1, and their labels."""
    data = require("sklearn.datasets", "demo").load_digits()
    images = torch.from_numpy(data.images).float().unsqueeze(1)
    return images / 8 - 1, data.target


def train(
    images: Tensor,
    label: Tensor,
    margin: int,
    seed: int,
    recipe: Recipe,
    progress: Progress | None = None,
) -> tuple[Net, Layer]:
    """Train a network and its head on labels 0..N-1; equal seeds give equal weights and batches."""
    return DigitsRun(images, label, margin, seed, recipe).train(progress)


@torch.no_grad()
def embed(net: Net, images: Tensor) -> NDArray[np.float32]:
    """Return the features, (N, K)."""
    return net(images)["fc5"].numpy()


def verify(net: Net, images: Tensor, label: NDArray[np.int64], seed: int) -> FoldResult:
    """Judge 6000 balanced pairs in ten folds, as many as LFW's."""
    return judge(embed(net, images), label, seed)


def judge(features: NDArray[np.float32], label: NDArray[np.int64], seed: int) -> FoldResult:
    """Do the same for features, (N, K)."""
    pairs = verification_pairs(label, per_fold=300, folds=10, seed=seed)
    return ten_fold(features[pairs.left], features[pairs.right], pairs.same, pairs.fold)


def table(splits: Sequence[Split]) -> str:
    """Return the accuracies as text: a row a split, then mean and standard deviation over them."""
    lines = [
        "Verification of unseen classes: accuracy in % (10 folds of 600 pairs, mean +- std)",
        "",
        "seed  trained on   unseen    m=1 (softmax)   m=4 (A-Softmax)   difference",
    ]
    for split in splits:
        first, second = (split.results[margin] for margin in _MARGINS)
        trained, unseen = ("".join(map(str, side)) for side in (split.trained, split.unseen))
        lines.append(
            f"{split.seed:4}  {trained:10}   {unseen:6}    {_spread(first.mean, first.std)}"
            f"    {_spread(second.mean, second.std)}       {100 * (second.mean - first.mean):+6.2f}"
        )
    means = np.array([[split.results[m].mean for m in _MARGINS] for split in splits])
    gain = means[:, 1] - means[:, 0]
    spread = means.std(axis=0, ddof=1) if len(splits) > 1 else np.zeros(2)
    lines.append(
        f"{'all splits':27}    {_spread(means[:, 0].mean(), spread[0])}"
        f"    {_spread(means[:, 1].mean(), spread[1])}       {100 * gain.mean():+6.2f}"
    )
    lines.append(f"\nm=4 is ahead of m=1 in {np.count_nonzero(gain > 0)} of {len(splits)} splits")
    if len(splits) > 1:
        error = 100 * gain.std(ddof=1) / len(splits) ** 0.5
        lines[-1] += f", by {100 * gain.mean():.2f} +- {error:.2f} on average (standard error)"
    return "\n".join(lines)


def _spread(mean: float, std: float) -> str:
    return f"{100 * mean:6.2f} +- {100 * std:4.2f}"


def _run_split(images: Tensor, label: NDArray[np.int64], seed: int, progress: Progress) -> Split:
    trained, unseen = _split_classes(seed)
    seen, held_out = np.isin(label, trained), np.isin(label, unseen)
    rank = torch.from_numpy(np.searchsorted(trained, label[seen]))
    results = {}
    for margin in _MARGINS:
        net, _ = train(images[seen], rank, margin, seed, _VERIFIED, progress)
        results[margin] = verify(net, images[held_out], label[held_out], seed)
    return Split(seed, trained.tolist(), unseen.tolist(), results)


def _split_classes(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes to train on, and the others."""
    order = np.random.default_rng(seed).permutation(10)
    return np.sort(order[:_TRAINED_CLASSES]), np.sort(order[_TRAINED_CLASSES:])


def _resumed(images: Tensor, label: NDArray[np.int64], split: Split, prefix: Path) -> str:
    """Train m=4 of a split again, interrupted; judge it in a new process; tell both results."""
    seen, held_out = np.isin(label, split.trained), np.isin(label, split.unseen)
    rank = torch.from_numpy(np.searchsorted(split.trained, label[seen]))
    run = DigitsRun(images[seen], rank, _MARGINS[-1], split.seed, _VERIFIED)
    model = run.train_with_interruption(prefix)
    features = fresh_process_features(model, images[held_out])
    first, again = split.results[_MARGINS[-1]], judge(features, label[held_out], split.seed)
    same = "the same" if np.array_equal(first.accuracy, again.accuracy) else "NOT the same"
    return (
        f"seed {split.seed}, m={run.margin}, stopped at iteration {run.iterations // 2}, resumed"
        f" from its snapshot, read back in a new process: {_spread(again.mean, again.std).strip()}"
        f" ({same} in every fold)\n{model}"
    )


def _panel(images: Tensor, label: NDArray[np.int64], margin: int, progress: Progress) -> Embedding:
    from sphereface.evaluation.plots import Embedding

    seen = label < _TRAINED_CLASSES
    rank = torch.from_numpy(label[seen])
    net, head = train(images[seen], rank, margin, 0, _PICTURE, progress)
    features, weight = embed(net, images[seen]), head.weight.detach().numpy()
    angle = _angle(features, weight[label[seen]]).mean()
    title = f"m={margin}: {angle:.1f} degrees from a sample to its class on average"
    names = [str(digit) for digit in range(_TRAINED_CLASSES)]
    return Embedding(title, features, label[seen], weight, names)


def _angle(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the angle between rows, in degrees."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(np.clip(np.sum(a * b, axis=1) / norms, -1, 1)))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, and differ with their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
