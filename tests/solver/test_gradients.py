from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.caffe_solver import ReferenceBlob, ReferenceSolver
from sphereface.caffe import Net, load
from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.resources import prototxt_path
from sphereface.solver.gradients import Updater, clip_gradients
from sphereface.solver.update_rules import RULES

# Multipliers: (1, 1), (2, 0); (1, 1) by default, (0, 3) frozen; (0.5, 2), (1, 1) by default.
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 3 }
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 4 }
        param {} param { lr_mult: 0 decay_mult: 3 } }
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" inner_product_param { num_output: 2 }
        param { lr_mult: 0.5 decay_mult: 2 } }
"""
MULTIPLIERS = [(1, 1), (2, 0), (1, 1), (0, 3), (0.5, 2), (1, 1)]
CONSTANTS = {
    "SGD": {"momentum": 0.75},
    "Nesterov": {"momentum": 0.75},
    "AdaGrad": {"delta": 0.125},
    "RMSProp": {"rms_decay": 0.875, "delta": 0.125},
    "AdaDelta": {"momentum": 0.875, "delta": 0.125},
    "Adam": {"momentum": 0.875, "momentum2": 0.9375, "delta": 0.125},
}
OPTIONS = [
    {},
    {"weight_decay": 0.125},
    {"weight_decay": 0.125, "regularization_type": "L1"},
    {"weight_decay": 0.125, "clip_gradients": 2.0, "iter_size": 4},
    {"clip_gradients": 0.0},
]


def as_text(fields) -> str:
    return " ".join(
        f'{name}: "{value}"' if isinstance(value, str) else f"{name}: {value}"
        for name, value in fields.items()
    )


@pytest.mark.parametrize("options", OPTIONS, ids=as_text)
@pytest.mark.parametrize("kind", sorted(RULES))
def test_updates_are_caffes(kind, options, rng):
    assert set(CONSTANTS) == set(RULES)
    fields = {"type": kind, **CONSTANTS[kind], **options}
    net = load(NET, phase="TRAIN").double()
    updater = Updater(net, text.read(as_text(fields), "SolverParameter"))
    reference = ReferenceSolver(**fields)
    blobs = []
    for blob, (lr_mult, decay_mult) in zip(net.learnable_blobs(), MULTIPLIERS, strict=True):
        start = rng.normal(size=tuple(blob.tensor.shape))
        blob.tensor.data.copy_(torch.from_numpy(start))
        blobs.append(ReferenceBlob(start, lr_mult, decay_mult))
    learning = {id(blob.tensor): at for at, blob in enumerate(net.learnable_blobs())}
    start = [blob.data.copy() for blob in blobs]
    for iteration in range(8):
        for blob in blobs:
            blob.diff = rng.normal(size=blob.data.shape) * 3 * (blob.lr_mult != 0)
        grads = [torch.tensor(blobs[learning[id(p)]].diff) for p in updater.parameters]
        rate = 0.25 / (iteration + 1)
        updater.apply(grads, rate, iteration)
        reference.apply_update(blobs, rate, iteration)
    for before, blob, ours in zip(start, blobs, net.learnable_blobs(), strict=True):
        np.testing.assert_allclose(ours.tensor.detach(), blob.data, rtol=1e-10, atol=1e-12)
        assert (np.abs(blob.data - before).max() > 1e-3) == (
            blob.lr_mult != 0 and (options.get("clip_gradients") != 0)
        )
    histories = [blob.history for blob in blobs]
    if RULES[kind].histories == 2:
        histories += [blob.history2 for blob in blobs]
    for at, (ours, theirs) in enumerate(zip(updater.history, histories, strict=True)):
        if MULTIPLIERS[at % 6][0]:
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
        else:
            assert not ours.any()


def test_clipping_is_over_all_gradients():
    grads = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert float(clip_gradients(grads, 2.5)) == 5
    assert [grad.tolist() for grad in grads] == [[1.5, 0], [[2]]]
    assert float(clip_gradients(grads, 2.5)) == 2.5
    assert [grad.tolist() for grad in grads] == [[1.5, 0], [[2]]]


def test_no_gradients_at_all_stay_none():
    grads = [torch.zeros(3)]
    clip_gradients(grads, 0.0)
    assert grads[0].tolist() == [0, 0, 0]


def test_unknown_history_is_refused_and_changes_nothing():
    updater = Updater(load(NET, phase="TRAIN"), text.read('type: "Adam"', "SolverParameter"))
    shapes = [(3, 5), (3,), (4, 3), (4,), (2, 4), (2,)]
    arrays = [np.ones(shape, np.float32) for shape in shapes]
    with pytest.raises(SphereFaceError, match="6 history blobs; expected 12, of 6 learnable"):
        updater.check_history(arrays, "x.solverstate")
    with pytest.raises(SphereFaceError, match=r"history 10 \(c.weight\) has shape \(7,\)"):
        updater.check_history([*arrays, *arrays[:4], np.ones(7), arrays[5]], "x.solverstate")
    updater.check_history([*arrays, *arrays], "x.solverstate")
    updater.load_history([*arrays, *arrays])
    assert all((history == 1).all() for history in updater.history)


# ---- the original's rates and decays


def expected_multipliers(net: Net) -> dict[str, tuple[float, float]]:
    """Return what the released definition says for each blob, from the layers' names alone.

    A stage opens with convS_1, whose bias learns twice as fast without decay; convolutions in the
    units have a bias that stays zero; PReLU has no `param`, so it learns and decays as a weight.
    """
    expected = {}
    for layer in net.layers:
        if layer.type == "Convolution":
            expected[f"{layer.name}.weight"] = (1, 1)
            expected[f"{layer.name}.bias"] = (2, 0) if layer.name.endswith("_1") else (0, 0)
        elif layer.type == "PReLU":
            expected[f"{layer.name}.weight"] = (1, 1)
        elif layer.name == "fc5":
            expected |= {"fc5.weight": (1, 1), "fc5.bias": (2, 0)}
        elif layer.name == "fc6":
            expected["fc6.weight"] = (1, 1)
    return expected


def test_every_rate_and_decay_of_sphereface_20():
    net = load(
        prototxt_path("sphereface_20_train.prototxt"),
        phase="TRAIN",
        input_shapes={"data": (2, 3, 112, 96)},
    )
    solver = text.read(prototxt_path("sphereface_20_solver.prototxt"), "SolverParameter")
    expected = expected_multipliers(net)
    assert len(expected) == 20 * 2 + 20 + 3 - 0
    learnable = list(net.learnable_blobs())
    assert {blob.key for blob in learnable} == set(expected)
    rates = Updater(net, solver).local_rates(0.1)
    for blob in learnable:
        lr_mult, decay_mult = expected[blob.key]
        assert (blob.lr_mult, blob.decay_mult) == (lr_mult, decay_mult), blob.key
        assert blob.tensor.requires_grad == (lr_mult != 0), blob.key
        if lr_mult:
            assert rates.pop(blob.key) == pytest.approx((0.1 * lr_mult, 0.0005 * decay_mult))
    assert rates == {}
    assert sum(lr_mult == 0 for lr_mult, _ in expected.values()) == 16


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_sparse_gradient_updates_its_rows_only(kind, rng):
    """As a net of these rows alone would; another update comes before, so that histories count."""
    fields = {"type": kind, **CONSTANTS[kind], "weight_decay": 0.125, "clip_gradients": 2.0}
    param, rows = text.read(as_text(fields), "SolverParameter"), [0, 2]
    whole, alone = (
        load(NET.replace("num_output: 3", f"num_output: {n}"), phase="TRAIN").double()
        for n in (3, 2)
    )
    updaters = [Updater(net, param) for net in (whole, alone)]
    place = next(i for i, p in enumerate(updaters[0].parameters) if p.shape == (3, 5))
    for iteration in range(2):
        with torch.no_grad():
            alone.layer("a").weight.copy_(whole.layer("a").weight[rows])
        before = whole.layer("a").weight.detach().clone()
        values = torch.from_numpy(rng.normal(size=(2, 5)))
        grads = [[torch.zeros_like(p) for p in updater.parameters] for updater in updaters]
        sparse = torch.sparse_coo_tensor([rows], values, (3, 5), check_invariants=True)
        grads[0][place], grads[1][place] = sparse, values.clone()
        norms = [u.apply(g, 0.5, iteration) for u, g in zip(updaters, grads, strict=True)]
        torch.testing.assert_close(*norms)
        after = whole.layer("a").weight.detach()
        torch.testing.assert_close(after[rows], alone.layer("a").weight.detach())
        assert torch.equal(after[1], before[1])
        assert not torch.equal(after[0], before[0])
    history = next(h for h in updaters[0].history if h.shape == (3, 5))
    assert history[1].abs().max() == 0
    assert history[rows].abs().min() > 0
