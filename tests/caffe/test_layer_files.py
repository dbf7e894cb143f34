from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sphereface.caffe import load_layers, registry
from sphereface.errors import SphereFaceError

LAYERS = """
import beside_the_layers
import sphereface.caffe as caffe


@caffe.register_layer("FileGain")
class FileGain(caffe.Layer):
    def forward(self, x):
        return beside_the_layers.GAIN * x
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module beside; modules and types of the test are forgotten."""
    (tmp_path / "beside_the_layers.py").write_text("GAIN = 3\n")
    registry.list_layers()
    monkeypatch.setattr(registry, "LAYERS", dict(registry.LAYERS))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith(("layers_of_the_test", "beside")):
            del sys.modules[name]


def written(folder: Path, text: str, name: str = "layers_of_the_test.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_is_run_once_and_finds_its_neighbours(folder):
    path = list(sys.path)
    file = written(folder, LAYERS)
    module = load_layers(file)
    assert registry.LAYERS["FileGain"].cls is module.FileGain
    assert load_layers(str(file)) is module
    assert sys.modules["layers_of_the_test"] is module
    assert sys.path == path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\n\ny = x / 0\n", r"layers_of_the_test.py:3: .* fails: ZeroDivisionError: "),
        ("x = (\n", r"layers_of_the_test.py:1: the file of layers fails: SyntaxError"),
        ("import no_such_module\n", r"_test.py:1: .* ModuleNotFoundError: No module named"),
        ("x = 1\n", "layers_of_the_test.py: registers no layer type; expected a class with @"),
        (
            LAYERS.replace('"FileGain"', '"FileGain", param="no_param"'),
            "layers_of_the_test.py: .*FileGain: LayerParameter has no field",
        ),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(text, problem, folder):
    with pytest.raises(SphereFaceError, match=problem):
        load_layers(written(folder, text))
    assert "FileGain" not in registry.LAYERS


@pytest.mark.parametrize("name", ["json.py", "two words.py", "numpy.py"])
def test_a_name_that_would_hide_a_module_is_refused(name, folder):
    with pytest.raises(SphereFaceError, match="rename the file, such as my_layers.py"):
        load_layers(written(folder, LAYERS, name))


def test_a_file_that_is_missing(folder):
    with pytest.raises(SphereFaceError, match="nowhere.py: no such file of layers"):
        load_layers(folder / "nowhere.py")
