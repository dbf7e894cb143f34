from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.weights import match_weights

SOURCE = {
    "data": [],
    "conv1": [np.arange(8.0).reshape(2, 1, 2, 2), np.array([[[[1.0, 2.0]]]])],
    "ip": [np.arange(6.0).reshape(1, 1, 2, 3)],
    "fc6": [np.zeros((10, 4))],
}
TARGET = {"conv1": [(2, 1, 2, 2), (2,)], "ip": [(2, 3)], "relu": [], "fc6": [(10, 4)]}


def test_by_name_with_legacy_shapes() -> None:
    report = match_weights(SOURCE, TARGET)
    assert list(report.loaded) == ["conv1", "ip", "fc6"]
    assert (report.skipped, report.left) == ({}, {})
    for name, shapes in TARGET.items():
        for array, source, shape in zip(
            report.loaded.get(name, []), SOURCE.get(name, []), shapes, strict=False
        ):
            assert array.shape == shape
            assert np.shares_memory(array, source)
            assert array.ravel().tolist() == source.ravel().tolist()


def test_extra_layers_are_skipped_and_missing_ones_left() -> None:
    report = match_weights(SOURCE, {"conv1": TARGET["conv1"], "new": [(3, 3)]})
    assert report.skipped == {
        "ip": "no such layer in the net",
        "fc6": "no such layer in the net",
    }
    assert report.left == {"new": "not in the source"}
    assert str(report).splitlines() == [
        "loaded 1 layers, 10 parameters; skipped 2; left at filler 1",
        "  loaded   conv1: (2, 1, 2, 2) (2)",
        "  skipped  ip: no such layer in the net",
        "  skipped  fc6: no such layer in the net",
        "  left     new: not in the source",
    ]


def test_every_mismatch_is_named() -> None:
    target = {"conv1": [(2, 1, 2, 2)], "ip": [(3, 2)], "fc6": [(10, 4), (10,)], "data": [(1,)]}
    with pytest.raises(SphereFaceError) as caught:
        match_weights(SOURCE, target, where="net.caffemodel")
    text = str(caught.value)
    assert text.startswith("net.caffemodel: ")
    assert 'layer "conv1": the source has 2 blobs, the net has 1' in text
    assert 'layer "ip": blob 0 has shape (1, 1, 2, 3) in the source and (3, 2) in the net' in text
    assert 'layer "fc6": the source has 1 blobs, the net has 2' in text
    assert 'layer "data": the source has 0 blobs, the net has 1' in text
    assert "rename the layer" in text


def test_partial_leaves_what_does_not_fit() -> None:
    report = match_weights(SOURCE, {**TARGET, "fc6": [(20, 4)]}, partial=True)
    assert list(report.loaded) == ["conv1", "ip"]
    reason = "blob 0 has shape (10, 4) in the source and (20, 4) in the net"
    assert report.left == {"fc6": reason}
    assert report.skipped == {"fc6": reason}


def test_strict() -> None:
    assert len(match_weights(SOURCE, TARGET, strict=True).loaded) == 3
    with pytest.raises(SphereFaceError, match='source layer "fc6": no such layer in the net'):
        match_weights(SOURCE, {k: v for k, v in TARGET.items() if k != "fc6"}, strict=True)
    with pytest.raises(SphereFaceError, match='layer "new" of the net: not in the source'):
        match_weights(SOURCE, {**TARGET, "new": [(1,)]}, strict=True)
    with pytest.raises(SphereFaceError, match="strict"):
        match_weights(SOURCE, {**TARGET, "fc6": [(20, 4)]}, strict=True, partial=True)
    # What is ignored on purpose is no fault.
    report = match_weights(SOURCE, TARGET, strict=True, ignore=["fc6"])
    assert report.left == {"fc6": "ignored"}


def test_ignore_and_rename() -> None:
    report = match_weights(SOURCE, TARGET, ignore=["fc*", "conv1"])
    assert list(report.loaded) == ["ip"]
    assert report.skipped == {"conv1": "ignored", "fc6": "ignored"}
    report = match_weights(SOURCE, {"head": [(10, 4)], "ip": [(2, 3)]}, rename={"fc6": "head"})
    assert list(report.loaded) == ["ip", "head"]
    report = match_weights(SOURCE, {"ip": [(2, 3)]}, rename={"fc6": "head"})
    assert report.skipped == dict.fromkeys(["conv1", "fc6"], "no such layer in the net")
    swapped = {"a": [np.zeros(1)], "b": [np.ones(1)]}
    report = match_weights(swapped, {"a": [(1,)], "b": [(1,)]}, rename={"a": "b", "b": "a"})
    assert [float(report.loaded[name][0][0]) for name in "ab"] == [1.0, 0.0]


def test_ignored_before_renamed_and_taken() -> None:
    target = {"ip": [(10, 4)]}
    report = match_weights(SOURCE, target, rename={"fc6": "ip"}, ignore=["ip"])
    assert list(report.loaded) == ["ip"]
    assert report.loaded["ip"][0].shape == (10, 4)
    assert report.left == {}
    with pytest.raises(SphereFaceError, match='two source layers would load into "ip"'):
        match_weights(SOURCE, target, rename={"fc6": "ip"})


def test_misspelt_options() -> None:
    with pytest.raises(SphereFaceError, match=r'rename names "fc7".*did you mean "fc6"'):
        match_weights(SOURCE, TARGET, rename={"fc7": "fc6"})
    with pytest.raises(SphereFaceError, match=r'ignore names "cnov\*"'):
        match_weights(SOURCE, TARGET, ignore=["cnov*"])


def test_shared_blobs_may_be_missing() -> None:
    """HDF5 files hold a shared parameter once, with its owner."""
    source = {"owner": [np.ones(2)], "user": [None, np.zeros(3)], "tail": [np.ones(1)]}
    target = {"owner": [(2,)], "user": [(2,), (3,)], "tail": [(1,), (2,)]}
    shared = {("user", 0), ("tail", 1)}
    report = match_weights(source, target, shared=shared)
    assert report.loaded["user"][0] is None
    assert report.loaded["user"][1].shape == (3,)
    assert [a is None for a in report.loaded["tail"]] == [False, True]
    assert "user: shared (3)" in str(report)
    with pytest.raises(SphereFaceError, match='"user": the source has 1 blobs, the net has 2'):
        match_weights(source, target, shared={("tail", 1)})
