"""A-Softmax against softmax with normalised weights, on scikit-learn's handwritten digits.

Open-set as in the paper: a network learns six classes, pairs of the four others are verified with
LFW's 10-fold protocol. m=1 and m=4 start from equal weights and see equal batches; each seed draws
another split of the classes. What differs from the paper: classes are few, so the embedding is
narrower than the number of classes, as it is for faces (512 for 10572).
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
from torch import Tensor, nn
from torch.nn import functional as F

from sphereface.errors import SphereFaceError
from sphereface.evaluation import FoldResult, ten_fold, verification_pairs
from sphereface.nn import MarginInnerProduct
from sphereface.progress import Progress

if TYPE_CHECKING:
    from sphereface.evaluation.plots import Embedding

__all__ = ["Recipe", "Split", "digits", "embed", "run_digits", "table", "train", "verify"]

_MARGINS = (1, 4)
_TRAINED_CLASSES = 6


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes
    ----------
    features : int
        K, the width of the embedding.
    epochs, batch : int
    base_lr, momentum, weight_decay : float
        SGD; the rate falls to a tenth after three fifths of the epochs.
    base, gamma, lambda_min : float
        Annealing of lambda, from almost plain softmax to the margin.
    """

    features: int = 4
    epochs: int = 20
    batch: int = 64
    base_lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.02
    base: float = 100.0
    gamma: float = 0.12
    lambda_min: float = 2.0


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
    print(table(splits))
    save_png(embedding_figure(panels), out)
    print(f"\n2-D embeddings of digits 0 to {_TRAINED_CLASSES - 1}, m=1 beside m=4: {out}")


def digits() -> tuple[Tensor, NDArray[np.int64]]:
    """Return scikit-learn's 1797 images, (N, 1, 8, 8) from -1 to 1, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SphereFaceError(
            f"scikit-learn cannot be imported ({error})",
            where="demo",
            fix='install it with pip install "sphereface[demo]"',
        ) from error
    data = load_digits()
    images = torch.from_numpy(data.images).float().unsqueeze(1)
    return images / 8 - 1, data.target


def train(
    images: Tensor,
    label: Tensor,
    margin: int,
    seed: int,
    recipe: Recipe,
    progress: Progress | None = None,
) -> tuple[nn.Sequential, MarginInnerProduct]:
    """Train a network and its head on labels 0..N-1; equal seeds give equal weights and batches."""
    torch.manual_seed(seed)
    net = _network(recipe.features)
    head = MarginInnerProduct(
        recipe.features,
        int(label.max()) + 1,
        margin=margin,
        base=recipe.base,
        gamma=recipe.gamma,
        lambda_min=recipe.lambda_min,
    )
    optimizer = torch.optim.SGD(
        [*net.parameters(), *head.parameters()],
        lr=recipe.base_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [recipe.epochs * 3 // 5], gamma=0.1)
    for _ in range(recipe.epochs):
        # The last, smaller batch is dropped; the next epoch's order gives its samples their turn.
        for batch in torch.randperm(len(images)).split(recipe.batch)[: len(images) // recipe.batch]:
            loss = F.cross_entropy(head(net(images[batch]), label[batch]), label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if progress:
            progress.update(note=f"m={margin} loss {loss.item():.3f}")
    return net.eval(), head.eval()


@torch.no_grad()
def embed(net: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return the features, (N, K)."""
    return net(images).numpy()


def verify(net: nn.Module, images: Tensor, label: NDArray[np.int64], seed: int) -> FoldResult:
    """Judge 6000 balanced pairs in ten folds, as many as LFW's."""
    pairs = verification_pairs(label, per_fold=300, folds=10, seed=seed)
    features = embed(net, images)
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


def _network(features: int) -> nn.Sequential:
    """SphereFace's manner in small: 3x3 convolutions, stride 2 instead of pooling, PReLU."""
    channels = (1, 16, 32, 64)
    layers: list[nn.Module] = []
    for stage in range(3):
        stride = 1 if stage == 0 else 2
        layers.append(nn.Conv2d(channels[stage], channels[stage + 1], 3, stride, padding=1))
        layers.append(nn.PReLU(channels[stage + 1]))
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 2 * 2, features))
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = (3 / layer.weight[0].numel()) ** 0.5  # Caffe's xavier
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.get_parameter("bias"))
    return net


def _run_split(images: Tensor, label: NDArray[np.int64], seed: int, progress: Progress) -> Split:
    order = np.random.default_rng(seed).permutation(10)
    trained, unseen = np.sort(order[:_TRAINED_CLASSES]), np.sort(order[_TRAINED_CLASSES:])
    seen, held_out = np.isin(label, trained), np.isin(label, unseen)
    rank = torch.from_numpy(np.searchsorted(trained, label[seen]))
    results = {}
    for margin in _MARGINS:
        net, _ = train(images[seen], rank, margin, seed, _VERIFIED, progress)
        results[margin] = verify(net, images[held_out], label[held_out], seed)
    return Split(seed, trained.tolist(), unseen.tolist(), results)


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
