"""The formats that `fuzz_models.py` attacks: small valid files of each, and how each is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sphereface import caffe
from sphereface.checkpoints import read_checkpoint, write_safetensors, write_state_dict
from sphereface.data.datum import datum_image
from sphereface.data.record_file import RecordFile
from sphereface.data.record_writer import RecordWriter
from sphereface.errors import SphereFaceError
from sphereface.evaluation.features import read_features
from sphereface.evaluation.pair_features import (
    PairFeatures,
    read_pair_features,
    write_pairs_mat,
    write_pairs_npz,
)
from sphereface.evaluation.pair_lists import read_pairs
from sphereface.evaluation.people_list import read_people
from sphereface.faces.face import Face
from sphereface.faces.records import face_record, read_faces
from sphereface.images import read_image, read_image_list
from sphereface.proto import schema
from sphereface.proto.wire import FIXED32, LENGTH, VARINT, encode_key, encode_varint
from sphereface.recognition import Gallery
from sphereface.solver import read_solver
from sphereface.solver.sidecar import Sidecar, read_sidecar, write_sidecar
from sphereface.weights import (
    Blob,
    load_weights,
    read_binaryproto,
    read_caffemodel,
    read_solverstate,
    write_binaryproto,
    write_caffemodel,
    write_caffemodel_h5,
    write_solverstate,
)
from sphereface.weights.solverstate import SolverState

__all__ = ["KINDS", "Kind"]

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
PROTOTXTS = Path(caffe.__file__).parents[1] / "prototxt"

Arrays = Iterable[np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes
    ----------
    name : str
        Of the format.
    suffix : str
        Of its files.
    seeds : callable
        Writes valid files with the help of a folder; returns their bytes by name.
    read : callable
        Reads a file, and returns what arrays it holds.
    text : bool
        Changed by words and lines too.
    seconds : float
        What one input may take.
    """

    name: str
    suffix: str
    seeds: Callable[[Path], dict[str, bytes]]
    read: Callable[[Path], Arrays]
    text: bool = False
    seconds: float = 2.0


# ---- weights and states of solvers


def message(number: int, *parts: bytes) -> bytes:
    """Return a length-delimited field."""
    body = b"".join(parts)
    return encode_key(number, LENGTH) + encode_varint(len(body)) + body


def number(field_number: int, value: int) -> bytes:
    """Return a varint field."""
    return encode_key(field_number, VARINT) + encode_varint(value)


def old_caffemodels() -> Iterator[tuple[str, bytes]]:
    """Yield caffemodels of the forms that no current writer makes."""
    four = np.arange(4, dtype="<f4").tobytes()
    legacy = b"".join(number(n, size) for n, size in ((1, 1), (2, 1), (3, 2), (4, 2)))
    packed = message(5, four)
    loose = b"".join(encode_key(5, FIXED32) + four[i : i + 4] for i in range(0, 16, 4))
    shape = message(7, message(1, b"\x02\x02"))
    loose_shape = message(7, number(1, 2), number(1, 2))
    raw = number(10, 2) + message(12, four[:8])
    yield "v1", message(2, message(4, b"ip"), number(5, 14), message(6, legacy, packed))
    yield "v0", message(2, message(1, message(1, b"ip"), message(50, legacy, loose)))
    for name, blob in (("loose", loose + loose_shape), ("fp16", raw + shape)):
        yield name, message(1, b"n") + message(100, message(1, b"ip"), message(7, blob))
    many = 2 * (message(5, four[:4]) + loose[:5])
    yield "chunks", message(100, message(1, b"ip"), message(7, many, shape), number(10, 1))


def weights() -> dict[str, list[np.ndarray]]:
    """Return the blobs of a few layers."""
    rng = np.random.default_rng(0)
    return {
        "conv": [rng.normal(size=(2, 1, 3, 3)).astype("f4"), np.zeros(2, "f4")],
        "prelu": [np.float32(0.25).reshape(())],
        "bn/dw": [np.ones((2, 2)), np.zeros((0, 3), "f4")],
        "data": [],
    }


def made(folder: Path, name: str, write: Callable[[Path], object]) -> bytes:
    """Return what `write` writes."""
    path = folder / name
    write(path)
    return path.read_bytes()


def caffemodels(folder: Path) -> dict[str, bytes]:
    layers = [(message(1, n.encode()) + number(10, 0), a) for n, a in weights().items()]
    layers.append((message(1, b"diff"), [Blob(np.ones(2, "f4"), np.zeros(2, "f4"))]))
    return {
        **dict(old_caffemodels()),
        "sgd": (GOLDEN / "train/sgd_iter_40.caffemodel").read_bytes(),
        "small": made(folder, "a.caffemodel", lambda p: write_caffemodel(p, "small", layers)),
    }


def read_layers(path: Path) -> Arrays:
    for layer in read_caffemodel(path).layers:
        yield from (blob.data for blob in layer.blobs)
        yield from (blob.diff for blob in layer.blobs if blob.diff is not None)
        _ = layer.header


def solverstates(folder: Path, suffix: str = "") -> dict[str, bytes]:
    state = SolverState(7, f"a.caffemodel{suffix}", weights()["conv"], 3)
    golden = "train/sgd_h5.solverstate.h5" if suffix else "train/sgd_iter_80.solverstate"
    return {
        "sgd": (GOLDEN / golden).read_bytes(),
        "small": made(folder, f"a.solverstate{suffix}", lambda p: write_solverstate(p, state)),
    }


def read_history(path: Path) -> Arrays:
    return read_solverstate(path).history


def hdf5_models(folder: Path) -> dict[str, bytes]:
    return {
        "sgd": (GOLDEN / "train/sgd_h5.caffemodel.h5").read_bytes(),
        "small": made(folder, "a.caffemodel.h5", lambda p: write_caffemodel_h5(p, weights())),
    }


def read_weights(path: Path) -> Arrays:
    for arrays in load_weights(path).values():
        yield from (array for array in arrays if array is not None)


def means(folder: Path) -> dict[str, bytes]:
    values = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype("f4")
    return {
        "four": made(folder, "a.binaryproto", lambda p: write_binaryproto(p, values)),
        "two": made(folder, "b.binaryproto", lambda p: write_binaryproto(p, values[0, 0])),
    }


def sidecars(folder: Path) -> dict[str, bytes]:
    sidecar = Sidecar(
        7,
        buffers={"0/a.iteration": np.array(7), "0/n.mean": np.ones(3, "f4")},
        generators={"cpu": torch.get_rng_state().numpy()[:64]},
        sources=[{"seed": 1, "position": 40, "order": np.arange(5)}, None],
        passes={"scale": 2.0},
    )
    sidecar.checksums = {"model": 1, "state": 2}
    return {"small": made(folder, "a.npz", lambda p: write_sidecar(p, sidecar))}


def read_buffers(path: Path) -> Arrays:
    return list(read_sidecar(path).buffers.values())


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2).half()}


def read_tensors(path: Path) -> Arrays:
    return [tensor.float().numpy() for tensor in read_checkpoint(path).values()]


# ---- definitions


def nets(folder: Path) -> dict[str, bytes]:
    files = [PROTOTXTS / "det1.prototxt", *Path(__file__).with_name("fuzz_nets").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def build_and_run(path: Path) -> Arrays:
    net = caffe.load(path, phase="TEST")
    if not net.inputs:
        return []
    shapes = {name: net.blob_shapes[name] for name in net.inputs}
    with torch.inference_mode():
        tops = net({name: torch.zeros(shape) for name, shape in shapes.items()})
    return [top.numpy() for top in tops.values()]


def solvers(folder: Path) -> dict[str, bytes]:
    for net in PROTOTXTS.glob("*_train.prototxt"):
        (folder / net.name).write_bytes(net.read_bytes())
    names = ("digits_solver", "sphereface_20_solver")
    return {name: (PROTOTXTS / f"{name}.prototxt").read_bytes() for name in names}


def read_solver_file(path: Path) -> Arrays:
    read_solver(path)
    return []


# ---- data


def records(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {}
    for name, count, size in (("leaf", 4, 6), ("tree", 150, 6), ("pages", 6, 60)):
        (folder / name).mkdir()
        with RecordWriter(folder / name) as writer:
            for index in range(count):
                pixels = rng.integers(0, 256, (3, size, size), np.uint8)
                datum = schema.message("Datum")(
                    channels=3, height=size, width=size, label=index, data=pixels.tobytes()
                )
                writer.put(b"%08d_a.png" % index, datum.SerializeToString())
        found[name] = (folder / name / "data.mdb").read_bytes()
    return found


def read_records(path: Path) -> Arrays:
    file = RecordFile(path)
    try:
        for _, datum in file:
            try:
                image = datum_image(datum)
            except SphereFaceError as error:
                raise error.at(file.path) from None
            yield image
    finally:
        file.close()


def pictures(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (72, 64))
    found = {}
    for suffix in ("png", "jpg", "bmp", "webp", "tiff", "ppm", "jp2", "gif"):
        done, data = cv2.imencode(f".{suffix}", image)
        assert done, suffix
        found[suffix] = data.tobytes()
    return found


def image_lists(folder: Path) -> dict[str, bytes]:
    return {
        "labels": b"a/b c.jpg 0\na/d.png 1\n\nb/e.png 12\n",
        "names": b"\xef\xbb\xbfa/b.jpg\r\nc.jpg\r\n",
    }


def read_labels(path: Path) -> Arrays:
    return [read_image_list(path).labels]


# ---- faces and evaluation


def face_files(folder: Path) -> dict[str, bytes]:
    face = Face(np.array([1.0, 2, 30, 40]), 0.9, np.arange(10.0).reshape(5, 2))
    lines = [
        {"file": "a/b.jpg", "status": "ok", "faces": [face_record(face)]},
        {"file": "a/c.jpg", "status": "no_face", "reason": "no face found", "faces": []},
    ]
    return {"two": "".join(json.dumps(line) + "\n" for line in lines).encode()}


def read_face_records(path: Path) -> Arrays:
    return [np.array([len(record["faces"])]) for record in read_faces(path).records]


def pair_lists(folder: Path) -> dict[str, bytes]:
    return {
        "lfw": b"2\t2\nA_B\t1\t2\nC\t3\t4\nA_B\t1\tC\t2\nC\t1\tD\t2\n"
        b"A_B\t5\t6\nC\t7\t8\nA_B\t3\tC\t4\nC\t5\tD\t6\n",
        "columns": b"left,right,same,fold\na/1.jpg,a/2.jpg,1,1\na/1.jpg,b/1.jpg,0,2\n",
        "plain": b"a/1.jpg a/2.jpg 1\na/1.jpg b/2.jpg 0\n",
    }


def read_pair_list(path: Path) -> Arrays:
    return [read_pairs(path).same]


def people_lists(folder: Path) -> dict[str, bytes]:
    return {"one": b"2\nA_B\t3\nC\t1\n", "sets": b"2\n1\nA_B\t3\n2\nC\t1\nD\t2\n"}


def read_people_list(path: Path) -> Arrays:
    return [np.array(read_people(path).images)]


def _pairs() -> PairFeatures:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 4, 5)).astype("f4")
    same, fold = np.array([True, False, True, False]), np.array([1, 1, 2, 2])
    return PairFeatures(left, right, same, fold, np.zeros(4, bool), ["a"] * 4, ["b"] * 4, [])


def pair_mats(folder: Path) -> dict[str, bytes]:
    return {"v5": made(folder, "p.mat", lambda p: write_pairs_mat(p, _pairs()))}


def pair_archives(folder: Path) -> dict[str, bytes]:
    return {"npz": made(folder, "p.npz", lambda p: write_pairs_npz(p, _pairs()))}


def read_both_sides(path: Path) -> Arrays:
    pairs = read_pair_features(path)
    return [pairs.left, pairs.right]


def feature_archives(folder: Path) -> dict[str, bytes]:
    def write(path: Path) -> None:
        np.savez(path, path=np.array(["a/1.jpg", "b/2.jpg"]), features=np.ones((2, 3), "f4"))

    return {"npz": made(folder, "f.npz", write)}


def galleries(folder: Path) -> dict[str, bytes]:
    gallery = Gallery(["Ann", "Bob"], np.eye(2, 4), ["a.jpg", "b.jpg"], embedder="e", label="E")
    return {"two": made(folder, "g.npz", gallery.save)}


def _hdf5_states(folder: Path) -> dict[str, bytes]:
    return solverstates(folder, ".h5")


def _one(read: Callable[[Path], Any]) -> Callable[[Path], Arrays]:
    return lambda path: [np.asarray(read(path))]


def _checkpoint(write: Callable[[Any, Path], object], name: str) -> Callable[[Path], Any]:
    return lambda folder: {"small": made(folder, name, lambda path: write(tensors(), path))}


KINDS = {
    kind.name: kind
    for kind in (
        Kind("caffemodel", ".caffemodel", caffemodels, read_layers),
        Kind("solverstate", ".solverstate", solverstates, read_history),
        Kind("binaryproto", ".binaryproto", means, _one(read_binaryproto)),
        Kind("caffemodel.h5", ".caffemodel.h5", hdf5_models, read_weights, seconds=5),
        Kind("solverstate.h5", ".solverstate.h5", _hdf5_states, read_history, seconds=5),
        Kind("sidecar", ".solverstate.npz", sidecars, read_buffers),
        Kind("pt", ".pt", _checkpoint(write_state_dict, "a.pt"), read_tensors),
        Kind("safetensors", ".safetensors", _checkpoint(write_safetensors, "a.safetensors"),
             read_tensors),
        Kind("prototxt", ".prototxt", nets, build_and_run, text=True, seconds=20),
        Kind("solver", ".prototxt", solvers, read_solver_file, text=True),
        Kind("lmdb", ".mdb", records, read_records),
        Kind("picture", ".png", pictures, _one(read_image)),
        Kind("image list", ".txt", image_lists, read_labels, text=True),
        Kind("faces", ".jsonl", face_files, read_face_records, text=True),
        Kind("pairs", ".txt", pair_lists, read_pair_list, text=True),
        Kind("people", ".txt", people_lists, read_people_list, text=True),
        Kind("pairs.mat", ".mat", pair_mats, read_both_sides),
        Kind("pairs.npz", ".npz", pair_archives, read_both_sides),
        Kind("gallery", ".npz", galleries, _one(lambda p: Gallery.load(p).embeddings)),
        Kind("features", ".npz", feature_archives, _one(lambda p: read_features(p).features)),
    )
}  # fmt: skip
