"""Sampled classes: which they are, and that nothing else of the loss changes."""

import functools

import numpy as np
import pytest
import torch

import sharded_work as work
import sphereface
from sphereface import SphereFaceError
from sphereface.class_range import ClassRange
from sphereface.distributed.sampling import ClassSampler


def test_positives_and_random_negatives():
    classes, label = ClassRange(100, 50, 400), torch.tensor([3, 100, 149, 120, 120, 150, -1])
    sampler = ClassSampler(0.2, 3)
    counts = np.zeros(50)
    for _ in range(2000):
        rows = sampler.draw(label, classes)
        assert len(rows) == 10
        assert rows.unique().tolist() == rows.tolist()  # sorted, each once
        counts[rows] += 1
    assert (counts[[0, 20, 49]] == 2000).all()
    # 7 of the 47 others each time: 297.9 draws each, standard deviation 15.9.
    others = np.delete(counts, [0, 20, 49])
    assert others.sum() == 7 * 2000
    assert np.abs(others - 7 * 2000 / 47).max() < 4 * 15.9


def test_more_positives_than_the_rate():
    rows = ClassSampler(0.1).draw(torch.tensor([4, 4, 0, 9, 7]), ClassRange(0, 10, 30))
    assert rows.tolist() == [0, 4, 7, 9]
    assert len(ClassSampler(0.1).draw(torch.tensor([1]), ClassRange(30, 0, 30))) == 0


def test_draws_follow_from_seed_count_and_range():
    label, classes = torch.tensor([1]), ClassRange(0, 1000, 2000)

    def draw(seed=0, draws=0, first=0):
        sampler = ClassSampler(0.1, seed)
        sampler.draws = draws
        return sampler.draw(label, ClassRange(first, 1000, 2000)).tolist()

    assert draw() == ClassSampler(0.1).draw(label, classes).tolist()
    assert len({tuple(draw(*key)) for key in ((0,), (1,), (0, 1), (0, 0, 1000))}) == 4


@pytest.mark.parametrize(("rate", "seed"), [(0, 0), (1.1, 0), (0.5, -1), (float("nan"), 0)])
def test_what_is_refused(rate, seed):
    with pytest.raises(SphereFaceError, match="sampling of classes"):
        ClassSampler(rate, seed)


M, K, N = 9, 4, 40


def train(pool, rng, tmp_path, kind, ranks=3, stop_at=-1, steps=4):
    x, weight, label = rng.normal(size=(M, K)), rng.normal(size=(N, K)), rng.integers(N, size=M)
    results = pool.run(
        work.sampled_training, ranks, x, weight, label, 0.4, steps, str(tmp_path), stop_at, kind
    )
    return x, weight, label, results


sgd = functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9, weight_decay=0.01)
adam = functools.partial(torch.optim.AdamW, lr=0.1)


@pytest.mark.parametrize("kind", [sgd, adam], ids=["sgd", "adamw"])
def test_trains_as_one_process_on_the_drawn_classes(pool, rng, tmp_path, kind):
    x, weight, label, results = train(pool, rng, tmp_path, kind)
    expected = torch.from_numpy(weight.copy()).requires_grad_()
    optimizer = kind([expected])
    firsts = [14 * rank for rank in range(3)]
    for step in range(4):
        drawn = []
        for first, (_, moved) in zip(firsts, results, strict=True):
            assert moved[step][0].tolist() == moved[step][1].tolist()  # what was drawn has moved
            drawn.append(first + moved[step][0])
        drawn = torch.from_numpy(np.concatenate(drawn))
        assert set(label) <= set(drawn.tolist())
        # One optimiser of all rows, whose state of the others is put back afterwards.
        before = expected.detach().clone()
        kept = {k: v.clone() for k, v in optimizer.state[expected].items() if v is not None}
        counted = torch.searchsorted(drawn, torch.from_numpy(label))
        loss = sphereface.margin_softmax_loss(
            torch.from_numpy(x), expected[drawn], counted, margin=1, gradient="exact"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        others = np.setdiff1d(np.arange(N), drawn)
        with torch.no_grad():
            expected[others] = before[others]
            for name, value in optimizer.state[expected].items():
                if value is not None and value.shape == expected.shape:
                    value[others] = kept[name][others] if name in kept else 0
    parts = np.concatenate([part for part, _ in results])
    np.testing.assert_allclose(parts, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert (parts == weight).all(1).any()  # a class that was never drawn


@pytest.mark.parametrize("kind", [sgd, adam], ids=["sgd", "adamw"])
def test_resumes_bit_for_bit(pool, tmp_path, kind):
    whole = train(pool, np.random.default_rng(1), tmp_path, kind)[3]
    resumed = train(pool, np.random.default_rng(1), tmp_path, kind, stop_at=2)[3]
    for (one, drawn), (two, drawn_again) in zip(whole, resumed, strict=True):
        assert one.tobytes() == two.tobytes()
        assert [a.tolist() for a, _ in drawn] == [a.tolist() for a, _ in drawn_again]
