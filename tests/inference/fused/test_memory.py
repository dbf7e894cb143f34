from __future__ import annotations

import random

from sphereface.inference.fused.memory import OWN, SCRATCH, Memory, Places


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


def test_in_a_run_an_image_has_its_own_place():
    memory = Memory()
    before = memory.take(4, 10, inside=False)
    memory.begin_run()
    own = [memory.take(4, 20, inside=True) for _ in range(2)]
    out = memory.take(4, 30, inside=False)
    memory.give_back(before)
    late = memory.take(4, 10, inside=False)  # other images still read what was given back
    memory.give_back(own[0])
    start, size = memory.end_run(parts=3)
    assert own == [(OWN, 0), (OWN, 32)]
    assert size == 64
    assert [before, out, late] == [(SCRATCH, 0), (SCRATCH, 48), (SCRATCH, 176)]
    assert start == 176 + 48
    assert memory.size == start + 3 * size
    assert memory.take(4, 10, inside=True) == before
