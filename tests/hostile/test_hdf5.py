from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.weights import hdf5, load_weights, read_caffemodel_h5, write_caffemodel_h5

FILES = Path(__file__).parent / "files"
ONE = np.ones(4, np.float32)


def put(value: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset("data/ip/0", data=value)


def external_storage(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(ONE.tobytes())
    file.create_dataset("data/ip/0", (4,), "f4", external=[(str(secret), 0, 16)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("data/ip/0", layout)


def nest(file: h5py.File) -> None:
    file.create_group("data/" + "/".join("abcdefghijklmnopqrstuvwxyz"))


def link(target: object) -> Callable[[h5py.File], None]:
    def attack(file: h5py.File) -> None:
        file["data/ip/0"] = ONE
        file["data/stolen"] = target

    return attack


def loop(file: h5py.File) -> None:
    group = file.create_group("data/ip")
    group["again"] = group


def unwritten(file: h5py.File) -> None:
    file.create_dataset("data/ip/0", (2**31 - 1,), "f4")


def bomb(file: h5py.File) -> None:
    file.create_dataset("data/ip/0", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")


def null_space(file: h5py.File) -> None:
    file["data/ip/0"] = h5py.Empty("f4")


def named_type(file: h5py.File) -> None:
    file["data/ip"] = np.dtype("f4")


ATTACKS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external link": (link(h5py.ExternalLink("other.h5", "/data")), "data/stolen: an external lin"),
    "soft link": (link(h5py.SoftLink("/data/ip")), "data/stolen: a soft link"),
    "dangling soft link": (link(h5py.SoftLink("/nowhere")), "a soft link"),
    "soft link to itself": (link(h5py.SoftLink("/data/stolen")), "a soft link"),
    "external storage": (external_storage, "values stored in another file"),
    "virtual dataset": (virtual, "values stored in another file"),
    "hard link loop": (loop, "groups nested 16 deep"),
    "deep groups": (nest, "groups nested 16 deep"),
    "never written": (unwritten, "0 bytes of values; expected 8589934588"),
    "compressed zeros": (bomb, "unpack to too much memory"),
    "integers": (put(np.arange(4)), "data/ip/0: a dataset of int64; expected floats"),
    "bytes": (put(b"abcd"), "expected floats"),
    "text": (put("abcd"), "expected floats"),
    "compound": (put(np.zeros(2, [("a", "f4"), ("b", "f4")])), "expected floats"),
    "booleans": (put(np.array([True])), "expected floats"),
    "complex": (put(np.ones(2, complex)), "expected floats"),
    "long doubles": (put(np.ones(2, np.longdouble)), "expected floats"),
    "null dataspace": (null_space, "without a shape"),
    "named type": (named_type, "data/ip: a datatype; expected a group"),
    "dataset for a layer": (lambda f: f.create_dataset("data/ip", data=ONE), "a dataset; expected"),
    "dataset for data": (lambda f: f.create_dataset("data", data=ONE), "a dataset; expected a g"),
    "no data": (lambda f: f.create_group("weights"), "/data: missing"),
    "huge index": (lambda f: f.create_dataset("data/ip/4294967295", data=ONE), "not the index"),
    "index no number": (lambda f: f.create_dataset("data/ip/weight", data=ONE), "not the index"),
    "negative index": (lambda f: f.create_dataset("data/ip/-1", data=ONE), "not the index"),
    "other digits": (lambda f: f.create_dataset("data/ip/\u0663", data=ONE), "not the index"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str, tmp_path: Path) -> None:
    make, problem = ATTACKS[name]
    path = tmp_path / "hostile.caffemodel.h5"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data/0"] = other["x"] = ONE
    with h5py.File(path, "w") as file:
        make(file)
    tracemalloc.start()
    try:
        with pytest.raises(SphereFaceError, match=problem) as caught:
            load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")


def test_number_of_links_is_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_LINKS", 50)
    write_caffemodel_h5(tmp_path / "n.h5", {str(i): [] for i in range(60)})
    with pytest.raises(SphereFaceError, match="more than 50 objects"):
        read_caffemodel_h5(tmp_path / "n.h5")


def test_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    write_caffemodel_h5(path, {"ip": [ONE, ONE], "relu": []})
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(SphereFaceError) as caught:
            read_caffemodel_h5(path)
        assert str(path) in str(caught.value)


def test_found_by_fuzzing(tmp_path: Path) -> None:
    """Inputs that once never returned; a child reads them, so that a relapse fails and ends."""
    paths = []
    for packed in sorted(FILES.glob("*.h5.gz")):
        paths.append(tmp_path / packed.stem)
        paths[-1].write_bytes(gzip.decompress(packed.read_bytes()))
    assert len(paths) >= 4
    script = (
        "import sys\n"
        "from sphereface.errors import SphereFaceError\n"
        "from sphereface.weights import read_solverstate\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(read_solverstate(path).iter)\n"
        "    except SphereFaceError as error:\n"
        "        print(str(error).startswith(path))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # Their strings can be read without walking over the damaged objects of the heap.
    assert done.stdout.split() == ["5"] * len(paths)
