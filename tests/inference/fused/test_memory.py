from __future__ import annotations

import random

from sphereface.inference.fused.memory import Places


def test_places_never_overlap():
    chance, places, taken = random.Random(0), Places(), {}
    for _ in range(500):
        if taken and chance.random() < 0.5:
            offset = chance.choice(list(taken))
            places.give_back(offset)
            del taken[offset]
        else:
            count = chance.randrange(1, 200)
            offset = places.take(count)
            assert offset % 16 == 0
            assert all(offset + count <= o or o + n <= offset for o, n in taken.items())
            taken[offset] = count
        assert all(o + n <= places.size for o, n in taken.items())


def test_a_place_is_used_again():
    places = Places()
    first = places.take(100)
    second = places.take(10)
    places.give_back(first)
    assert places.take(50) == first
    assert places.take(50) > second
    assert places.size == 112 + 16 + 64
