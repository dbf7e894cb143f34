from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.recognition import Gallery, gallery


def unit(rng, rows, width=16):
    values = rng.standard_normal((rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made(rng):
    names = [f"person {index // 3}" for index in range(50)]
    return Gallery(names, unit(rng, 50), [f"{i}.jpg" for i in range(50)], embedder="e", label="E")


def test_the_nearest_of_all(made, rng, monkeypatch):
    probes = unit(rng, 200)
    cosines = probes.astype(np.float64) @ made.embeddings.astype(np.float64).T
    best = cosines.argmax(axis=1)
    for chunk in (1 << 16, 7):  # in one product, and in several
        monkeypatch.setattr(gallery, "_CHUNK", chunk)
        found = made.search(probes)
        assert [match.source for match in found] == [f"{place}.jpg" for place in best]
        assert [match.name for match in found] == [f"person {place // 3}" for place in best]
        np.testing.assert_allclose([m.score for m in found], cosines.max(axis=1), atol=1e-6)


def test_faiss_finds_the_same(made, rng):
    pytest.importorskip("faiss")
    probes = unit(rng, 100)
    exact = made.search(probes)
    made.use_faiss()
    for one, two in zip(exact, made.search(probes), strict=True):
        assert (one.name, one.source) == (two.name, two.source)
        assert one.score == pytest.approx(two.score, abs=1e-6)


def test_saved_and_read(made, tmp_path):
    made.save(tmp_path / "g.npz")
    read = Gallery.load(tmp_path / "g.npz")
    assert (read.names, read.sources) == (made.names, made.sources)
    assert (read.embedder, read.label) == ("e", "E")
    np.testing.assert_array_equal(read.embeddings, made.embeddings)
    with np.load(tmp_path / "g.npz", allow_pickle=False) as arrays:
        assert not any(array.dtype == object for array in arrays.values())


def test_people(made):
    assert made.people == sorted({f"person {index // 3}" for index in range(50)})


def test_another_models_embeddings(made):
    made.check("e", "E")
    with pytest.raises(SphereFaceError, match="a gallery of E; expected one of F: .*enroll again"):
        made.check("f", "F")
    with pytest.raises(SphereFaceError, match=r"shape \(1, 8\); expected \(N, 16\)"):
        made.search(np.ones((1, 8), np.float32))


def test_what_is_no_gallery(tmp_path, rng):
    np.savez(tmp_path / "other.npz", path=np.array(["a"]), features=np.ones((1, 3)))
    with pytest.raises(SphereFaceError, match=r"other\.npz: no gallery .*sphereface enroll"):
        Gallery.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(SphereFaceError, match=r"text\.npz"):
        Gallery.load(tmp_path / "text.npz")
    with pytest.raises(SphereFaceError, match="embeddings of other lengths"):
        Gallery(["a"], 2 * unit(rng, 1), ["a"], embedder="e")
    with pytest.raises(SphereFaceError, match="2 names, 1 sources"):
        Gallery(["a", "b"], unit(rng, 2), ["a"], embedder="e")
