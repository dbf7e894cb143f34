from __future__ import annotations

import pytest

from sphereface.caffe import Net
from sphereface.caffe.load import load_graph
from sphereface.inspection.boxes import Arrow, Box, Diagram, Stripe, Top, net_diagram
from sphereface.inspection.fold import fold
from sphereface.resources import prototxt_path


def diagram(kinds: str, arrows: list[tuple[int, int]]) -> Diagram:
    """Return a box a letter, named by its place."""
    boxes = tuple(
        Box((Stripe(f"{kind}{place}", kind, "white"),), (Top(place, "", "1"),))
        for place, kind in enumerate(kinds)
    )
    return Diagram("net", boxes, tuple(Arrow(source, 0, target) for source, target in arrows))


def chain(count: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(count - 1)]


def folded(kinds: str, arrows: list[tuple[int, int]]):
    result, blocks = fold(diagram(kinds, arrows))
    names = "".join(stripe.kind for box in result.boxes for stripe in box.stripes)
    pairs = sorted((arrow.source, arrow.target) for arrow in result.arrows)
    return names, pairs, [(b.start, b.stop, b.repeats, b.first, b.last) for b in blocks]


def test_a_chain_of_equal_boxes_is_one_box():
    assert folded("ibbbbo", chain(6)) == ("ibo", chain(3), [(1, 2, 4, "b1", "b4")])


def test_two_of_a_kind_stay():
    assert folded("ibbo", chain(4)) == ("ibbo", chain(4), [])


def test_the_smallest_block_is_found():
    assert folded("iabababo", chain(8)) == ("iabo", chain(4), [(1, 3, 3, "a1", "b6")])


def test_residual_units_are_cut_behind_their_sums():
    # Units of a, b and the sum s, which also reads what the unit began with; the stem looks like
    # the end of a unit, so that a run could begin with it.
    kinds, skips = "sabsabsabso", [(0, 3), (3, 6), (6, 9)]
    names, pairs, blocks = folded(kinds, chain(11) + skips)
    assert (names, blocks) == ("sabso", [(1, 4, 3, "a1", "s9")])
    assert pairs == sorted([*chain(5), (0, 3)])


def test_a_block_whose_inside_is_read_from_outside_is_not_folded():
    long = (2, 7)  # from the second of the copies
    assert folded("ibbbbxyo", [*chain(8), long])[2] == []
    assert folded("ibbbbxyo", [*chain(8), (4, 7)])[2] == [(1, 2, 4, "b1", "b4")]


def test_every_copy_must_read_from_equally_far():
    # Each b also reads the input: 1, 2, 3, 4 boxes back.
    assert folded("ibbbbo", [*chain(6), (0, 2), (0, 3), (0, 4)])[2] == []


def test_another_shape_is_another_block():
    plain = diagram("ibbbbo", chain(6))
    wide = Box(plain.boxes[3].stripes, (Top(3, "", "2"),))
    boxes = (*plain.boxes[:3], wide, *plain.boxes[4:])
    assert fold(Diagram("net", boxes, plain.arrows))[1] == ()


@pytest.mark.parametrize(
    ("name", "boxes", "repeats"),
    # Table 2 of the paper: units of two convolutions and a sum; runs of less than three stay.
    [("sphereface_20_deploy", 30 - 3 * 3, [4]), ("sphereface_64_deploy", None, [3, 7, 16, 3])],
)
def test_units_of_the_paper(name, boxes, repeats):
    result, blocks = fold(net_diagram(Net(load_graph(prototxt_path(name)), fill=False)))
    assert [block.repeats for block in blocks] == repeats
    assert {block.stop - block.start for block in blocks} == {3}
    # input, a convolution that halves the size and a unit a stage, fc5
    assert len(result.boxes) == (boxes or 1 + 4 * (1 + 3) + 1)
