"""Every layer recording, replayed as it was made: pycaffe calls on force_backward nets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface import pycaffe as caffe

FILES = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))


def blob_of(net, name):
    _, layer, index = name.split("/")
    return net.params[layer][int(index)]


def assert_close(found, expected, name):
    assert found.shape == expected.shape, name
    # Some recordings are of zeros, such as a lambda that has run out.
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recording(path, write_net):
    golden = dict(np.load(path))
    names = {kind: [n for n in golden if n.startswith(f"{kind}/")] for kind in
             ("in", "param", "param_after", "out", "dout", "din", "dparam")}  # fmt: skip
    net = caffe.Net(write_net(str(golden["prototxt"])), getattr(caffe, str(golden["phase"])))
    for name in names["param"]:
        blob_of(net, name).data[...] = golden[name]
    for name in names["in"]:
        net.blobs[name[3:]].data[...] = golden[name]
    net.forward()
    for name in names["out"]:
        assert_close(net.blobs[name[4:]].data, golden[name], name)
    for name in names["param_after"]:
        assert_close(blob_of(net, name).data, golden[name], name)
    for name in names["dout"]:
        net.blobs[name[5:]].diff[...] = golden[name]
    net.backward()
    for name in names["din"]:
        assert_close(net.blobs[name[4:]].diff, golden[name], name)
    for name in names["dparam"]:
        assert_close(blob_of(net, name).diff, golden[name], name)
