from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import Features
from sphereface.evaluation.gallery_search import search_galleries
from sphereface.evaluation.identification import centroids, search_scores, tpir_at_fpir


def example() -> tuple[Features, list, tuple]:
    rng = np.random.default_rng(0)
    person = np.arange(60) % 12
    values = rng.normal(size=(12, 6))[person] + 0.5 * rng.normal(size=(60, 6))
    features = Features([f"t{i}" for i in range(60)], values.astype(np.float32), "f.npz")

    def listed(items: np.ndarray) -> tuple[list[str], list[str]]:
        return [f"t{i}" for i in items], [f"s{person[i]}" for i in items]

    items = np.arange(36)
    galleries = [listed(items[person[items] < 6]), listed(items[person[items] >= 6])]
    return features, galleries, listed(np.arange(36, 60))


@pytest.mark.parametrize("items", ["each", "centroid"])
def test_both_galleries_and_their_mean(items: str) -> None:
    features, galleries, probes = example()
    found = search_galleries(features, galleries, probes, items, targets=[0.25])
    unit = features.features / np.linalg.norm(features.features, axis=1, keepdims=True)
    rank_1 = []
    for (names, persons), own, points in zip(galleries, found.searches, found.points, strict=True):
        held, who = features.features[features.rows(names)], np.array(persons)
        if items == "centroid":
            held, who = centroids(held, who)
            assert len(who) == 6
        held = held / np.linalg.norm(held, axis=1, keepdims=True)
        expected = search_scores(unit[features.rows(probes[0])] @ held.T, probes[1], who)
        assert own.rank.tolist() == expected.rank.tolist()
        assert points[0].tar == tpir_at_fpir(expected, [0.25])[0].tar
        rank_1.append(np.mean(expected.rank[expected.rank > 0] == 1))
    [table] = found.tables()
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["rank 1"] == [f"{100 * x:.2f}%" for x in (*rank_1, np.mean(rank_1))]
    assert "TPIR@FPIR 0.25" in rows
    assert table.notes[1] == "gallery 2: 12 mated, 12 non-mated probes"
    assert found.to_dict()["galleries"][0]["cmc"]["1"] == rank_1[0]


def test_closed_set_has_no_open_figures() -> None:
    features, galleries, probes = example()
    whole = tuple(a + b for a, b in zip(*galleries, strict=True))
    found = search_galleries(features, [whole], probes)
    assert found.points == [[]]
    assert [row[0] for row in found.tables()[0].rows] == ["rank 1", "rank 5", "rank 10"]


def test_bad_arguments() -> None:
    features, galleries, probes = example()
    with pytest.raises(SphereFaceError, match='gallery items "all"; expected each or centroid'):
        search_galleries(features, galleries, probes, "all")
    with pytest.raises(SphereFaceError, match="f.npz: t99, and 0 other listed items, have no feat"):
        search_galleries(features, galleries, (["t99"], ["s1"]))
