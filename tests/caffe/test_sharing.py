from __future__ import annotations

import pytest

from sphereface.caffe.sharing import BlobSlot, resolve_sharing
from sphereface.errors import SphereFaceError


def slot(
    layer: int, blob: int, name: str = "", shape: tuple[int, ...] = (4, 3), **given
) -> BlobSlot:
    return BlobSlot(layer, blob, shape, f'layer "{layer}"', name, **given)


def test_blobs_without_a_name_stand_alone():
    blobs = resolve_sharing([slot(0, 0), slot(0, 1, lr_mult=2.0, decay_mult=0.0), slot(1, 0)])
    assert [(b.owner.layer, b.owner.blob, b.lr_mult, b.decay_mult) for b in blobs] == [
        (0, 0, 1, 1),
        (0, 1, 2, 0),
        (1, 0, 1, 1),
    ]
    assert not any(blob.sharers for blob in blobs)


def test_the_first_with_a_name_owns():
    blobs = resolve_sharing([slot(0, 0, "w"), slot(0, 1, "b", (4,)), slot(1, 0), slot(2, 0, "w")])
    assert len(blobs) == 3
    assert [(s.layer, s.blob) for s in blobs[0].sharers] == [(2, 0)]


@pytest.mark.parametrize(
    ("first", "second", "lr", "decay"),
    [
        ({"lr_mult": 3.0}, {"lr_mult": 3.0}, 3, 1),
        ({"lr_mult": 3.0}, {}, 3, 1),
        ({}, {"lr_mult": 3.0, "decay_mult": 0.0}, 3, 0),
        ({"lr_mult": 0.0}, {"decay_mult": 5.0}, 0, 5),
    ],
)
def test_multipliers_given_anywhere_hold_for_all(first, second, lr, decay):
    (blob,) = resolve_sharing([slot(0, 0, "w", **first), slot(1, 0, "w", **second)])
    assert (blob.lr_mult, blob.decay_mult) == (lr, decay)


@pytest.mark.parametrize("which", ["lr_mult", "decay_mult"])
def test_multipliers_that_differ(which):
    with pytest.raises(SphereFaceError, match=rf'layer "2": .*has {which} 2; expected 3, as in'):
        resolve_sharing(
            [slot(0, 0, "w"), slot(1, 0, "w", **{which: 3.0}), slot(2, 0, "w", **{which: 2.0})]
        )


def test_shapes_that_differ():
    with pytest.raises(SphereFaceError, match=r"shape here is \(2, 6\); expected the shape of its"):
        resolve_sharing([slot(0, 0, "w"), slot(1, 0, "w", (2, 6))])
    assert resolve_sharing([slot(0, 0, "w"), slot(1, 0, "w", (2, 6), permissive=True)])[0].sharers
    with pytest.raises(SphereFaceError, match="expected the count of its owner"):
        resolve_sharing([slot(0, 0, "w"), slot(1, 0, "w", (2, 5), permissive=True)])
