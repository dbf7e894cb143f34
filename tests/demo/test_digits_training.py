from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.demo import digits as demo
from sphereface.demo.digits_training import DigitsRun, Recipe, fresh_process_features
from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.resources import prototxt_path
from sphereface.weights import load_weights


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run():
    images, label = demo.digits()
    seen = label < 6
    return DigitsRun(images[seen], torch.from_numpy(label[seen]), 4, 2, Recipe(epochs=2))


def test_interrupted_and_resumed_is_bit_equal(tmp_path, run):
    net, head = run.train()
    model = run.train_with_interruption(tmp_path / "digits")
    assert (tmp_path / f"digits_iter_{run.iterations // 2}.solverstate").exists()
    weights = load_weights(model)
    layers = {layer.name: layer for layer in net.layers if layer.blob_names}
    assert {name for name, blobs in weights.items() if blobs} == {*layers, "fc6"}
    for name, layer in (*layers.items(), ("fc6", head)):
        for blob, saved in zip(layer.blobs, weights[name], strict=True):
            np.testing.assert_array_equal(blob.detach().numpy(), saved)
    np.testing.assert_allclose(
        fresh_process_features(model, run.images), demo.embed(net, run.images), rtol=1e-4, atol=1e-5
    )


def test_a_new_process_that_fails_says_why(tmp_path, run):
    with pytest.raises(SphereFaceError, match=r"sphereface run: .*none.caffemodel"):
        fresh_process_features(tmp_path / "none.caffemodel", run.images)


def test_a_recipe_without_changes_is_the_prototxt():
    images, label = demo.digits()
    seen = label < 6
    run = DigitsRun(images[seen], torch.from_numpy(label[seen]), 4, 0, Recipe())
    param = text.read(prototxt_path("digits_solver"), "SolverParameter")
    used = run.solver().param
    for name in ("base_lr", "gamma", "momentum", "weight_decay"):
        assert getattr(used, name) == getattr(param, name)
    assert (param.max_iter, list(param.stepvalue)) == (320, [192])
    assert (used.max_iter, list(used.stepvalue)) == (20 * (len(run.images) // 64), [192])
    assert used.net_param == text.read(prototxt_path("digits_train"))
