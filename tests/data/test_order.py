import numpy as np
import pytest
from scipy import stats

from sphereface.data.order import SampleOrder, random_bits, shuffled
from sphereface.errors import SphereFaceError


def split_mix_64(seed, counters):
    """The formula on Python's integers."""
    bits, mask = seed, (1 << 64) - 1
    for counter in counters:
        bits = ((bits ^ counter) + 0x9E3779B97F4A7C15) & mask
        bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & mask
        bits ^= bits >> 31
    return bits


def test_random_bits_are_split_mix():
    epochs, indices, draws = np.array([[[2]], [[3]]]), np.array([[5], [2**40]]), np.arange(3)
    bits = random_bits(2017, epochs, indices, draws)
    assert bits.shape == (2, 2, 3)
    for (i, j, k), value in np.ndenumerate(bits):
        expected = split_mix_64(2017, (int(epochs[i, 0, 0]), int(indices[j, 0]), k))
        assert int(value) == expected
    # The first numbers of the published generator with seed 0.
    assert int(random_bits(0, 0)[0]) == 0xE220A8397B1DCDAF


def test_random_bits_are_uniform_and_independent():
    bits = random_bits(1, np.arange(100)[:, None, None], np.arange(200)[:, None], np.arange(3))
    for shift in (0, 20, 56):
        values = (bits >> np.uint64(shift)) & np.uint64(0xFF)
        assert stats.chisquare(np.bincount(values.ravel().astype(int), minlength=256)).pvalue > 1e-3
    unit = (bits / 2**64).reshape(-1, 3)
    assert np.abs(np.corrcoef(unit.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(unit[:-1, 0], unit[1:, 0])[0, 1]) < 0.03  # neighbours
    assert abs(np.corrcoef(unit[:-200, 0], unit[200:, 0])[0, 1]) < 0.03  # next epoch


def test_every_permutation_is_as_likely():
    counts = {}
    for epoch in range(4800):
        order = tuple(shuffled(4, 7, epoch))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_batches_cross_epochs_and_nothing_is_dropped():
    order = SampleOrder(10, 4, seed=3, shuffle=True)
    batches = [order.take() for _ in range(15)]
    epochs = np.concatenate([b.epochs for b in batches]).reshape(6, 10)
    indices = np.concatenate([b.indices for b in batches]).reshape(6, 10)
    assert (epochs == np.arange(6)[:, None]).all()
    assert (np.sort(indices) == np.arange(10)).all()
    assert len({tuple(row) for row in indices}) == 6


def test_a_batch_larger_than_several_epochs():
    order = SampleOrder(3, 8, seed=3, shuffle=True)
    indices = np.concatenate([order.take().indices for _ in range(3)])
    assert (np.sort(indices.reshape(8, 3)) == np.arange(3)).all()


def test_without_shuffle_the_order_is_the_lists():
    order = SampleOrder(5, 3, seed=3)
    assert [order.take().indices.tolist() for _ in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_out_what_one_process_with_the_larger_batch_takes(shuffle):
    one = SampleOrder(11, 6, seed=5, shuffle=shuffle)
    ranks = [SampleOrder(11, 2, seed=5, shuffle=shuffle, rank=r, ranks=3) for r in range(3)]
    for _ in range(8):
        whole, parts = one.take(), [rank.take() for rank in ranks]
        dealt = np.stack([part.indices for part in parts], 1).ravel()
        assert (dealt == whole.indices).all()
        assert {rank.position for rank in ranks} == {one.position}


def test_restore_goes_on_with_the_same_samples_for_any_number_of_ranks():
    order = SampleOrder(10, 4, seed=3, shuffle=True)
    for _ in range(7):
        order.take()
    state = order.state(order.position)
    assert state == {"seed": 3, "size": 10, "epoch": 2, "position": 8}
    rest = np.concatenate([order.take().indices for _ in range(6)])
    again = SampleOrder(10, 4, seed=99, shuffle=True)
    again.take()
    again.restore(state, "here")
    assert (np.concatenate([again.take().indices for _ in range(6)]) == rest).all()
    two = [SampleOrder(10, 2, seed=3, shuffle=True, rank=r, ranks=2) for r in range(2)]
    for rank in two:
        rank.restore(state, "here")
    parts = np.stack([np.concatenate([r.take().indices for _ in range(6)]) for r in two], 1)
    assert (parts.ravel() == rest).all()


def test_seek_is_reading():
    read, sought = (SampleOrder(10, 3, seed=3, shuffle=True, rand_skip=7) for _ in range(2))
    for _ in range(12):
        read.take()
    sought.seek(12)
    assert sought.position == read.position
    assert (sought.take().indices == read.take().indices).all()


def test_rand_skip_is_uniform_below_its_value():
    starts = [SampleOrder(10, 1, seed=seed, rand_skip=5).take().indices[0] for seed in range(2000)]
    counts = np.bincount(starts)
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 1e-3


def test_wrong_states_and_ranks():
    order = SampleOrder(10, 4, seed=3)
    with pytest.raises(SphereFaceError, match="here: data state .*expected integers seed, size"):
        order.restore({"seed": 3, "size": 10, "epoch": "0", "position": 0}, "here")
    with pytest.raises(SphereFaceError, match="rank 2 of 2"):
        SampleOrder(10, 4, seed=3, rank=2, ranks=2)


@pytest.mark.parametrize(("size", "same"), [(9, True), (10, False)])
def test_a_state_of_other_samples_begins_the_next_epoch(size, same):
    order = SampleOrder(10, 4, seed=3, shuffle=True)
    state = {"seed": 8, "size": size, "epoch": 2, "position": 5}
    (line,) = order.restore(state, "here", same=same)
    assert line.startswith("here: 10 samples")
    assert f"{size} when the state was saved; position 5 of epoch 2 is dropped" in line
    expected = SampleOrder(10, 30, seed=8, shuffle=True)
    expected.take()
    taken = order.take()
    assert taken.epochs.tolist() == [3] * 4
    assert (taken.indices == expected.take().indices[:4]).all()
