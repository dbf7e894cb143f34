from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from sphereface.inspection.layout import arrange

SIZE = (100.0, 30.0)


def overlaps(first, second, sizes, boxes) -> bool:
    (ax, ay), (bx, by) = boxes[first], boxes[second]
    (aw, ah), (bw, bh) = sizes[first], sizes[second]
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah


def check(sizes, edges, layout):
    """Boxes are inside and apart, arrows run down, from their source to their target."""
    for first, second in combinations(range(len(sizes)), 2):
        assert not overlaps(first, second, sizes, layout.boxes)
    for (x, y), (width, height) in zip(layout.boxes, sizes, strict=True):
        assert x >= -1e-6
        assert y >= 0
        assert x + width <= layout.width + 1e-6
        assert y + height <= layout.height + 1e-6
    for (source, target), route in zip(edges, layout.routes, strict=True):
        (x, y), (width, height) = layout.boxes[source], sizes[source]
        assert route[0] == pytest.approx((x + width / 2, y + height))
        (x, y), (width, _) = layout.boxes[target], sizes[target]
        assert route[-1] == pytest.approx((x + width / 2, y))
        assert [point[1] for point in route] == sorted(point[1] for point in route)
        # The vertical pieces pass no box.
        for (x, upper), (_, lower) in zip(route[1:-1:2], route[2:-1:2], strict=True):
            for (left, top), (width, height) in zip(layout.boxes, sizes, strict=True):
                beside = x <= left or x >= left + width
                assert beside or lower <= top or upper >= top + height


def centres(sizes, layout):
    return [x + width / 2 for (x, _), (width, _) in zip(layout.boxes, sizes, strict=True)]


def test_nothing():
    layout = arrange([], [])
    assert (layout.boxes, layout.routes) == ([], [])


def test_a_chain_is_straight():
    sizes = [(60.0, 20.0), (200.0, 40.0), (90.0, 30.0)]
    layout = arrange(sizes, [(0, 1), (1, 2)], gap=10)
    check(sizes, [(0, 1), (1, 2)], layout)
    assert centres(sizes, layout) == pytest.approx([100, 100, 100])
    assert [y for _, y in layout.boxes] == [0, 30, 80]
    assert (layout.width, layout.height) == (200, 110)


def test_residual_units_keep_the_main_path_straight():
    count = 13
    sizes = [SIZE] * count
    edges = [(i, i + 1) for i in range(count - 1)] + [(i, i + 3) for i in range(0, count - 3, 3)]
    layout = arrange(sizes, edges)
    check(sizes, edges, layout)
    middle = centres(sizes, layout)
    assert max(middle) - min(middle) < 1
    # Every skip goes round its unit, two boxes, on vertical lines.
    for route in layout.routes[count - 1 :]:
        assert len(route) == 6
        assert route[1][0] == pytest.approx(route[4][0], abs=1)
        assert abs(route[1][0] - middle[0]) > SIZE[0] / 2


def test_branches_stand_side_by_side_in_order():
    sizes = [SIZE] * 6
    edges = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (2, 5), (3, 5), (4, 5)]
    layout = arrange(sizes, edges, spacing=20)
    check(sizes, edges, layout)
    middle = centres(sizes, layout)
    assert [b - a for a, b in pairwise(middle[1:5])] == pytest.approx([120] * 3)
    assert middle[0] == pytest.approx(middle[5]) == pytest.approx(sum(middle[1:5]) / 4)


def test_crossings_are_removed():
    # Two chains whose second boxes are given in the other order.
    sizes = [SIZE] * 4
    edges = [(0, 3), (1, 2)]
    layout = arrange(sizes, edges)
    check(sizes, edges, layout)
    middle = centres(sizes, layout)
    assert (middle[0] < middle[1]) == (middle[3] < middle[2])


def test_an_input_stands_above_its_reader():
    # Box 1 feeds the last of a chain only.
    sizes = [SIZE] * 5
    edges = [(0, 2), (2, 3), (3, 4), (1, 4)]
    layout = arrange(sizes, edges)
    check(sizes, edges, layout)
    assert layout.boxes[1][1] == layout.boxes[3][1]
    assert len(layout.routes[3]) == 2


def test_a_dense_block():
    count = 9
    sizes = [(60.0 + 10 * (i % 4), 20.0 + 5 * (i % 3)) for i in range(count)]
    edges = list(combinations(range(count), 2))
    check(sizes, edges, arrange(sizes, edges))
