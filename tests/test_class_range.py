import pytest
import torch

from sphereface import SphereFaceError
from sphereface.class_range import ClassRange


@pytest.mark.parametrize(("total", "ranks"), [(7, 3), (5, 4), (12, 4), (1, 3), (10572, 8)])
def test_the_shares_are_those_of_chunk(total, ranks):
    classes = torch.arange(total)
    chunks = [chunk.tolist() for chunk in classes.chunk(ranks)]
    shares = [ClassRange.of(rank, ranks, total) for rank in range(ranks)]
    assert [classes[share.rows].tolist() for share in shares if share.count] == chunks
    assert sum(share.count for share in shares) == total


@pytest.mark.parametrize("values", [(-1, 2, 5), (0, -1, 5), (3, 3, 5)])
def test_a_range_lies_within_the_classes(values):
    with pytest.raises(SphereFaceError, match=r"expected a range within 0 to 4"):
        ClassRange(*values)
