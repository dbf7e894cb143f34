from __future__ import annotations

import subprocess
import sys

import sphereface.pycaffe


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


def test_nothing_is_registered_by_import():
    assert "caffe" not in sys.modules
    assert sphereface.pycaffe.__version__ == "1.0.0"


def test_import_caffe_and_its_submodules_after_install():
    result = run("""
from sphereface import pycaffe
pycaffe.install()
pycaffe.install()  # again is no harm
import caffe, caffe.io, caffe.proto.caffe_pb2
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
from caffe.pycaffe import Net
from caffe.io import Transformer
assert caffe is pycaffe and Net is caffe.Net
assert caffe_pb2 is pycaffe.proto.caffe_pb2
import caffe.net_spec, caffe.coord_map, caffe.draw, caffe._caffe
assert caffe._caffe.Net is Net and caffe.draw is pycaffe.draw
assert caffe.net_spec.NetSpec is caffe.NetSpec
print(caffe.__version__)
""")
    assert (result.returncode, result.stdout) == (0, "1.0.0\n"), result.stderr


def test_another_caffe_is_not_replaced():
    result = run("""
import sys, types
sys.modules["caffe"] = types.ModuleType("caffe")
from sphereface import pycaffe
pycaffe.install()
""")
    assert result.returncode == 1
    assert "another caffe is imported already" in result.stderr
