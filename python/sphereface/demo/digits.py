"""The margin family against softmax with normalised weights, on scikit-learn's handwritten digits.

Open-set as in the paper: a network learns six classes, pairs of the four others are verified with
LFW's 10-fold protocol. Each seed draws another split of the classes. Every loss goes through
`sphereface.margin_softmax_loss`: softmax and A-Softmax by Caffe's solver, the others in PyTorch.
What differs from the paper: classes are few, so the embedding is narrower than the number of
classes, as it is for faces (512 for 10572).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sphereface.caffe import Net
from sphereface.demo.digits_training import DigitsRun, Recipe, fresh_process_features
from sphereface.demo.torch_training import TorchRun
from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult, ten_fold, verification_pairs
from sphereface.extras import require
from sphereface.nn import ArcFaceLoss, CosFaceLoss
from sphereface.progress import Progress

if TYPE_CHECKING:
    from sphereface.evaluation.plots import Embedding

__all__ = ["Recipe", "Split", "digits", "embed", "run_digits", "table", "train", "verify"]

# By the names of the table: m of A-Softmax, or a loss of PyTorch. Four features cannot meet the
# papers' margins and scales.
_LOSSES: dict[str, int | Callable[[int, int], nn.Module]] = {
    "softmax (m=1)": 1,
    "A-Softmax (m=4)": 4,
    "CosFace": functools.partial(CosFaceLoss, margin=0.2, scale=8.0),
    "ArcFace": functools.partial(ArcFaceLoss, margin=0.3, scale=8.0),
}
_SOFTMAX, _A_SOFTMAX = list(_LOSSES)[:2]
_TRAINED_CLASSES = 6


_VERIFIED = Recipe()

# The picture is of two features only, which take longer to find their directions.
_PICTURE = Recipe(features=2, epochs=40, lambda_min=0.5)


@dataclass(frozen=True)
class Split:
    """What one seed gives: the classes on either side, and the result of each loss by its name."""

    seed: int
    trained: Sequence[int]
    unseen: Sequence[int]
    results: dict[str, FoldResult]


def run_digits(out: Path, seeds: int = 6) -> None:
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
    epochs = len(_LOSSES) * seeds * _VERIFIED.epochs + 2 * _PICTURE.epochs
    with _one_thread(), Progress(epochs, "training, in epochs") as progress:
        splits = [_run_split(images, label, seed, progress) for seed in range(seeds)]
        panels = [_panel(images, label, margin, progress) for margin in (1, 4)]
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
    loss: int | Callable[[int, int], nn.Module],
    seed: int,
    recipe: Recipe,
    progress: Progress | None = None,
) -> tuple[Net, nn.Module]:
    """Train a network and its head on labels 0..N-1; equal seeds give equal weights and batches.

    `loss` is m of A-Softmax, or makes a loss of `sphereface.nn` from the numbers of features and
    classes.
    """
    if isinstance(loss, int):
        return DigitsRun(images, label, loss, seed, recipe).train(progress)
    return TorchRun(DigitsRun(images, label, 1, seed, recipe), loss).train(progress)


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
    """Return the accuracies as text: a row a loss, a column a split, then means over them."""
    lines = ["Verification of unseen classes: accuracy in % (10 folds of 600 pairs)", ""]
    columns = "".join(f"  seed {split.seed:<2}" for split in splits)
    lines.append(f"{'loss':16}{columns}     mean   to softmax")
    means = {n: np.array([split.results[n].mean for split in splits]) for n in splits[0].results}
    for name, values in means.items():
        cells = "".join(f"  {100 * value:7.2f}" for value in values)
        gain = 100 * (values - means[_SOFTMAX])
        told = "" if name == _SOFTMAX else f"   {gain.mean():+.2f}"
        if told and len(splits) > 1:
            told += f" +- {gain.std(ddof=1) / len(splits) ** 0.5:.2f}"
        lines.append(f"{name:16}{cells}  {100 * values.mean():7.2f}{told}")
    unseen = ", ".join(f"{s.seed}: {''.join(map(str, s.unseen))}" for s in splits)
    lines.append(f"\n+-: standard error of the mean difference. Unseen digits by seed: {unseen}")
    return "\n".join(lines)


def _spread(mean: float, std: float) -> str:
    return f"{100 * mean:6.2f} +- {100 * std:4.2f}"


def _run_split(images: Tensor, label: NDArray[np.int64], seed: int, progress: Progress) -> Split:
    trained, unseen = _split_classes(seed)
    seen, held_out = np.isin(label, trained), np.isin(label, unseen)
    rank = torch.from_numpy(np.searchsorted(trained, label[seen]))
    results = {}
    for name, loss in _LOSSES.items():
        net, _ = train(images[seen], rank, loss, seed, _VERIFIED, progress)
        results[name] = verify(net, images[held_out], label[held_out], seed)
    return Split(seed, trained.tolist(), unseen.tolist(), results)


def _split_classes(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes to train on, and the others."""
    order = np.random.default_rng(seed).permutation(10)
    return np.sort(order[:_TRAINED_CLASSES]), np.sort(order[_TRAINED_CLASSES:])


def _resumed(images: Tensor, label: NDArray[np.int64], split: Split, prefix: Path) -> str:
    """Train m=4 of a split again, interrupted; judge it in a new process; tell both results."""
    seen, held_out = np.isin(label, split.trained), np.isin(label, split.unseen)
    rank = torch.from_numpy(np.searchsorted(split.trained, label[seen]))
    run = DigitsRun(images[seen], rank, 4, split.seed, _VERIFIED)
    model = run.train_with_interruption(prefix)
    features = fresh_process_features(model, images[held_out])
    first, again = split.results[_A_SOFTMAX], judge(features, label[held_out], split.seed)
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
    features = embed(net, images[seen])
    weight = head.get_parameter("weight").detach().numpy()
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
