from __future__ import annotations

import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.solver.finetuning import check_weights_names, start_from

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }
layer { name: "fc5" type: "InnerProduct" bottom: "x" top: "fc5"
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "%s" type: "InnerProduct" bottom: "fc5" top: "fc6"
  inner_product_param { num_output: 4 bias_term: false } }
"""
WEIGHTS = {"fc5": [np.ones((2, 3))], "fc6": [np.ones((7, 2))], "old": [np.ones(1)]}


def test_another_number_of_classes_says_what_to_do_and_that_works():
    net = load(NET % "fc6")
    before = net.layer("fc5").weight.detach().clone()
    with pytest.raises(SphereFaceError) as caught:
        start_from(WEIGHTS, net, [])
    text = str(caught.value)
    assert 'layer "fc6": blob 0 has shape (7, 2) in the source and (4, 2) in the net' in text
    assert 'give it another name in the net\'s file ("fc6_new" for "fc6")' in text
    assert "partial" not in text
    assert net.layer("fc5").weight.equal(before)
    renamed = load(NET % "fc6_new")
    lines = start_from(WEIGHTS, renamed, [load(NET % "fc6_new")])
    assert renamed.layer("fc5").weight.eq(1).all()
    assert lines == [
        "Ignoring source layer fc6",
        "Ignoring source layer old",
        "Not in the weights, left as they were: fc6_new",
    ]


def test_test_nets_get_the_weights_too():
    nets = [load(NET % "new") for _ in range(3)]
    start_from(WEIGHTS, nets[0], nets[1:])
    assert all(net.layer("fc5").weight.eq(1).all() for net in nets)


def test_weights_of_another_net():
    (*_, line) = start_from({"other": [np.ones(1)]}, load(NET % "fc6"), [])
    assert line == "Warning: the weights have no layer of the net's; nothing was copied"


@pytest.mark.parametrize("name", ["x_iter_5.solverstate", "x_iter_5.solverstate.h5"])
def test_a_solverstate_is_no_weights(name):
    match = f"{name}: the state of a solver; .* x_iter_5.caffemodel; --snapshot takes"
    with pytest.raises(SphereFaceError, match=match):
        check_weights_names(f"a.caffemodel,{name}")
    with pytest.raises(SphereFaceError, match=match):
        start_from(name, load(NET % "fc6"), [])
    check_weights_names("a.caffemodel,b.caffemodel.h5,c.safetensors")
