from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from sphereface.caffe import as_caffe, load
from sphereface.caffe.user_layer import LayerPhase, PythonLayer
from sphereface.errors import SphereFaceError

LAYER = """
import caffe
from caffe.io_of_the_test import FACTOR


class Constant(caffe.Layer):
    def __init__(self, p_object, *args, **kwargs):
        super().__init__(p_object, *args, **kwargs)
        self.name = p_object.name

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = FACTOR * len(self.name)


def not_a_class(param):
    raise AssertionError("called")


class NoMethods:
    def __init__(self, *args):
        raise AssertionError("called")


class OfAnotherCaffe:
    setup = reshape = forward = backward = print

    def __init__(self, param):
        pass
"""


def prototxt(module: str = "constant_of_the_test", layer: str = "Constant") -> str:
    return (
        f'layer {{ name: "five5" type: "Python" top: "y" '
        f'python_param {{ module: "{module}" layer: "{layer}" }} }}'
    )


def caffe_modules():
    return {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "caffe"}


@pytest.fixture
def pycaffe(monkeypatch):
    """A package with a submodule, as sphereface.pycaffe is."""
    package, submodule = ModuleType("package_of_the_test"), ModuleType("package_of_the_test.io")
    package.Layer, submodule.FACTOR = PythonLayer, 2
    monkeypatch.setitem(sys.modules, "package_of_the_test", package)
    monkeypatch.setitem(sys.modules, "package_of_the_test.io_of_the_test", submodule)
    return package


@pytest.fixture
def layer_file(monkeypatch, tmp_path):
    (tmp_path / "constant_of_the_test.py").write_text(LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("constant_of_the_test", None)


@pytest.mark.parametrize("allowed", [True, ["constant_of_the_test"], ("a", "constant_of_the_test")])
def test_a_module_of_pycaffes_world(allowed, pycaffe, layer_file):
    before = caffe_modules()
    with as_caffe(pycaffe):
        net = load(prototxt(), allow_python=allowed)
    assert net()["y"].item() == 10
    assert caffe_modules() == before


@pytest.mark.parametrize("allowed", [False, (), ["constant"], ["constant_of_the_test.sub"]])
def test_no_module_is_imported_without_permission(allowed, pycaffe, layer_file):
    with as_caffe(pycaffe), pytest.raises(SphereFaceError) as caught:
        load(prototxt(), allow_python=allowed)
    assert str(caught.value) == (
        'prototxt:1: layer "five5" (Python): python_param names the module "constant_of_the_test", '
        "which the program has not imported; if you trust its code: --allow-python "
        "constant_of_the_test; in Python, import it before loading the net, or "
        'load(..., allow_python=["constant_of_the_test"])'
    )
    assert "constant_of_the_test" not in sys.modules


def test_a_layer_of_py_faster_rcnn_that_is_built_in():
    text = prototxt().replace("constant_of_the_test", "rpn.proposal_layer")
    with pytest.raises(SphereFaceError, match='type: "Proposal" and proposal_param { feat_stride'):
        load(text)


def test_imported_modules_are_allowed_and_permission_ends_with_the_load(pycaffe, layer_file):
    with as_caffe(pycaffe):
        load(prototxt(), allow_python=True)
    assert load(prototxt())()["y"].item() == 10
    del sys.modules["constant_of_the_test"]
    with pytest.raises(SphereFaceError, match="has not imported"):
        load(prototxt())


def test_an_allowed_module_sees_pycaffe(layer_file, monkeypatch, tmp_path):
    path = tmp_path / "constant_of_the_test.py"
    path.write_text(LAYER.replace("from caffe.io_of_the_test import FACTOR", "FACTOR = 3"))
    for known in (None, ...):
        if known is None:  # as after a failed import
            monkeypatch.setitem(sys.modules, "caffe", None)
        net = load(prototxt(), allow_python=["constant_of_the_test"])
        assert net()["y"].item() == 15
        monkeypatch.undo()
        monkeypatch.syspath_prepend(tmp_path)
        del sys.modules["constant_of_the_test"]
        assert caffe_modules() == {}


def test_a_module_that_is_not_there():
    with pytest.raises(SphereFaceError, match=r'"nowhere_to_be_found" cannot .*PYTHONPATH'):
        load(prototxt("nowhere_to_be_found"), allow_python=True)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Constan", 'has no "Constan"; did you mean "Constant"'),
        ("not_a_class", "is no layer class"),
        ("NoMethods", "is no layer class"),
        ("OfAnotherCaffe", "cannot be made .*derived from the Layer of sphereface.pycaffe"),
    ],
)
def test_names_that_are_no_layer(layer, message, pycaffe, layer_file):
    with as_caffe(pycaffe), pytest.raises(SphereFaceError, match=message):
        load(prototxt(layer=layer), allow_python=True)


@pytest.mark.parametrize(("module", "layer"), [("os", "system"), ("subprocess", "Popen")])
def test_a_prototxt_calls_nothing_that_is_no_layer_class(module, layer):
    __import__(module)
    with pytest.raises(SphereFaceError, match="is no layer class"):
        load(prototxt(module, layer))


def test_an_installed_caffe_comes_back(pycaffe, monkeypatch):
    real, real_io = ModuleType("caffe"), ModuleType("caffe.io")
    monkeypatch.setitem(sys.modules, "caffe", real)
    monkeypatch.setitem(sys.modules, "caffe.io", real_io)
    with as_caffe(pycaffe):
        assert sys.modules["caffe"] is pycaffe
        assert "caffe.io" not in sys.modules
    assert sys.modules["caffe"] is real
    assert sys.modules["caffe.io"] is real_io


def test_what_a_program_put_there_itself_stays(pycaffe, monkeypatch):
    own, late = ModuleType("caffe.own"), ModuleType("caffe.late")
    monkeypatch.setitem(sys.modules, "caffe.own", own)
    monkeypatch.setitem(sys.modules, "caffe.io_of_the_test", own)
    for known in (None, pycaffe):  # as a script has it without and after `install`
        if known is not None:
            monkeypatch.setitem(sys.modules, "caffe", known)
        with as_caffe(pycaffe):
            assert sys.modules["caffe"] is pycaffe
            assert sys.modules["caffe.own"] is sys.modules["caffe.io_of_the_test"] is own
            sys.modules["caffe.late"] = late  # by the module of a layer
        assert sys.modules.get("caffe") is known
        assert sys.modules["caffe.own"] is sys.modules["caffe.io_of_the_test"] is own
        assert sys.modules.pop("caffe.late") is late


def test_phase_is_a_number_with_a_name():
    assert [int(LayerPhase.TRAIN), LayerPhase.TEST == 1] == [0, True]
    assert str(LayerPhase.TRAIN) == "TRAIN"
    assert np.full(1, LayerPhase.TEST, np.float32)[0] == 1


def test_the_base_class():
    layer = PythonLayer()
    assert layer.type == "Python"
    layer.setup([], [])
    for method in (layer.reshape, layer.forward):
        with pytest.raises(NotImplementedError, match="PythonLayer"):
            method([], [])
    with pytest.raises(NotImplementedError, match=r"PythonLayer\.backward"):
        layer.backward([], [], [])
