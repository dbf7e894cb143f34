"""The goldens margin_* hold the numbers; here are options, state, phases and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from reference import a_softmax
from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.caffe.layers import margin_inner_product as margin_layer
from sphereface.errors import NonFiniteError, SphereFaceError
from sphereface.proto import schema

EXAMPLES = {
    "quadruple": example(
        "MarginInnerProduct", "num_output: 3 type: QUADRUPLE", x=(3, 4), label=(3,)
    ),
}

TOPS = 'top: "y" top: "lambda"'


def layer(options: str, tops: str = TOPS) -> str:
    return (
        f'layer {{ name: "l" type: "MarginInnerProduct" bottom: "x" bottom: "label" {tops} '
        f"margin_inner_product_param {{ {options} }} }}"
    )


@pytest.mark.parametrize(
    ("kind", "m"), [("SINGLE", 1), ("DOUBLE", 2), ("TRIPLE", 3), ("QUADRUPLE", 4)]
)
def test_train_and_test(kind, m, layer_net, rng):
    text = layer(f"num_output: 5 type: {kind} base: 100 gamma: 0.5 power: 2 lambda_min: 1")
    x, w, dy = rng.normal(size=(6, 2, 3)), rng.normal(size=(5, 6)), rng.normal(size=(6, 5))
    label = np.array([0, 4, 2, 2, 1, 3])
    net = layer_net(text, x=x.shape, label=(6,))
    net.net.double()
    result = net.set(weight=w).run({"x": x, "label": label}, {"y": dy})
    lam = 100 * 1.5**-2
    flat = x.reshape(6, 6)
    np.testing.assert_allclose(
        result.tops["y"], a_softmax.forward(flat, w, label, lam, m), rtol=1e-6
    )
    np.testing.assert_allclose(result.tops["lambda"], [lam], rtol=1e-6)
    # The original's weight gradient takes nothing through margin and normalisation.
    np.testing.assert_allclose(result.param_diffs["weight"], dy.T @ flat, rtol=1e-12)
    norms = np.linalg.norm(net.layer.weight.detach().numpy(), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-12)

    net.run({"x": x, "label": label})
    assert net.net.state_dict()["l.iteration"] == 2
    net.net.eval()
    result = net.set(weight=w).run({"x": x, "label": label})
    lam = 100 * 2.0**-2
    np.testing.assert_allclose(
        result.tops["y"], a_softmax.forward(flat, w, label, lam, m), rtol=1e-6
    )
    np.testing.assert_allclose(result.tops["lambda"], [lam], rtol=1e-6)
    assert net.layer.iteration == 2
    np.testing.assert_array_equal(net.layer.weight.detach().numpy(), w)


def test_iteration_option_and_state(layer_net, rng):
    text = layer("num_output: 3 base: 1000 gamma: 0.12 lambda_min: 5 iteration: 599")
    net = layer_net(text, x=(2, 4), label=(2,))
    assert sorted(net.net.state_dict()) == ["l.iteration", "l.weight"]
    bottoms = {"x": rng.normal(size=(2, 4)), "label": np.array([0, 2])}
    net.set(weight=rng.normal(size=(3, 4)))
    # A published training log printed this value after 600 iterations.
    np.testing.assert_allclose(net.run(bottoms).tops["lambda"], [13.6986], rtol=1e-4)

    other = layer_net(text.replace("599", "0"), x=(2, 4), label=(2,))
    other.net.load_state_dict(net.net.state_dict())
    assert other.layer.iteration == 600
    np.testing.assert_array_equal(other.run(bottoms).tops["y"], net.run(bottoms).tops["y"])


@pytest.mark.parametrize(("axis", "rows"), [(0, ()), (2, (2, 3)), (-1, (2, 3))])
def test_axis(axis, rows, layer_net, rng):
    x = rng.normal(size=(2, 3, 4))
    flat = x.reshape(-1, 24 if axis == 0 else 4)
    label = np.arange(len(flat)) % 5
    w = rng.normal(size=(5, flat.shape[1]))
    net = layer_net(
        layer(f"num_output: 5 type: TRIPLE axis: {axis}", 'top: "y"'),
        x=x.shape,
        label=rows or (1,),
    )
    result = net.set(weight=w).run({"x": x, "label": label.reshape(rows or (1,))})
    expected = a_softmax.forward(flat, w, label, 1, 3).reshape(*rows, 5)
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-6)
    assert set(result.tops) == {"y"}


def test_weight_filler_and_float_labels():
    net = load(
        'input: "x" input_shape { dim: [2, 300] } input: "label" input_shape { dim: 2 }'
        + layer('num_output: 50 weight_filler { type: "xavier" }', 'top: "y"'),
        phase="TRAIN",
    )
    largest = net.layer("l").weight.abs().max().item()
    assert 0.095 < largest <= 0.1  # sqrt(3 / 300)
    x = torch.randn(2, 300)
    first = net(x, torch.tensor([1.0, 49.0]))["y"]
    assert torch.equal(first, net(x, torch.tensor([1, 49]))["y"])


@pytest.mark.parametrize("strict", [False, True])
def test_compile_and_export(strict):
    text = 'input: "x" input_shape { dim: [4, 6] } input: "label" input_shape { dim: 4 }' + layer(
        'num_output: 5 type: QUADRUPLE weight_filler { type: "xavier" }'
    )
    net = load(text)
    arguments = (torch.randn(4, 6), torch.tensor([0.0, 1.0, 2.0, 4.0]))
    program = torch.export.export(net, arguments, strict=strict).module()
    expected = net(*arguments)
    for name, top in program(*arguments).items():
        torch.testing.assert_close(top, expected[name])


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", {}, "num_output 0; expected at least 1"),
        ("num_output: 3 gamma: -0.5", {}, r'layer "l".*gamma is -0.5; expected a float32 number'),
        ("num_output: 3 iteration: -1", {}, "iteration -1"),
        ("num_output: 3 axis: 2", {}, "axis 2 for a bottom"),
        ("num_output: 3", {"label": (4,)}, r"4 labels \(shape \(4,\)\); expected 2"),
    ],
)
def test_impossible_options_are_refused(options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), **{"x": (2, 4), "label": (2,), **shapes})


def test_wrong_values_are_named(layer_net, rng):
    net = layer_net(layer("num_output: 3"), x=(2, 4), label=(2,))
    net.set(weight=rng.normal(size=(3, 4)))
    x = rng.normal(size=(2, 4))
    for wrong in (3, -1):
        with pytest.raises(SphereFaceError, match=rf'"l" .*: label\[1\] is {wrong}; .* 0 to 2'):
            net.run({"x": x, "label": np.array([0, wrong])})
    x[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match='layer "l" .*: x has a NaN or infinite .* row 1'):
        net.run({"x": x, "label": np.array([0, 1])})
    with pytest.raises(SphereFaceError, match="has 5 values from axis 1 on; expected 4"):
        net.run({"x": rng.normal(size=(2, 5)), "label": np.array([0, 1])})


def test_no_memory_is_not_bad_input(layer_net, rng, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    net = layer_net(layer("num_output: 3"), x=(2, 4), label=(2,))
    monkeypatch.setattr(margin_layer, "margin_inner_product", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        net.run({"x": rng.normal(size=(2, 4)), "label": np.array([0, 1])})


@pytest.mark.parametrize("m", [1, 2, 4])
def test_semihard_leaves_out_what_is_easy_or_hard(m, layer_net, rng):
    kind = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"][m - 1]
    options = f"num_output: 5 type: {kind} base: 1"  # lambda is 1
    label = np.array([0, 4, 2, 2, 1, 3, 0, 1])
    w, dy = rng.normal(size=(5, 6)), rng.normal(size=(8, 5))
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    # Rows at rising angles from their label's weight: easy, semihard, hard.
    x = unit[label] + rng.normal(size=(8, 6)) * np.linspace(0.1, 1.5, 8)[:, None]
    plain = layer_net(layer(options), x=x.shape, label=(8,)).set(weight=w)
    expected = plain.run({"x": x, "label": label}, {"y": dy})
    net = layer_net(layer(f"{options} semihard: true"), x=x.shape, label=(8,)).set(weight=w)
    result = net.run({"x": x, "label": label}, {"y": dy})
    easy = a_softmax.forward(x, w, label, 1, m).argmax(1) == label
    hard = (x @ unit.T).argmax(1) != label
    left_out = easy | hard if m > 1 else easy
    dx = expected.bottom_diffs["x"] * ~left_out[:, None]
    assert 0 < left_out.sum() < 8
    np.testing.assert_array_equal(result.tops["y"], expected.tops["y"])
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-12)
    np.testing.assert_array_equal(result.param_diffs["weight"], expected.param_diffs["weight"])


def test_triplet_writes_features_into_rows(layer_net, rng):
    """Half of the samples replace the row of their label; the last of a class stays."""
    label = np.arange(400) % 200
    x, w, dy = rng.normal(size=(400, 3)), rng.normal(size=(250, 3)), rng.normal(size=(400, 250))
    options = "num_output: 250 type: DOUBLE base: 1"
    plain = layer_net(layer(options), x=x.shape, label=(400,)).set(weight=w)
    expected = plain.run({"x": x, "label": label}, {"y": dy})
    net = layer_net(layer(f"{options} triplet: true"), x=x.shape, label=(400,)).set(weight=w)
    torch.manual_seed(3)
    result = net.run({"x": x, "label": label}, {"y": dy})
    np.testing.assert_array_equal(result.tops["y"], expected.tops["y"])
    np.testing.assert_array_equal(result.bottom_diffs["x"], expected.bottom_diffs["x"])
    assert not result.param_diffs["weight"].any()
    found = net.layer.weight.detach().numpy()
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    later = (found[:200] == x[200:]).all(1)
    earlier = (found[:200] == x[:200]).all(1)
    kept = np.isclose(found[:200], unit[:200], rtol=1e-12).all(1)
    assert (later.astype(int) + earlier + kept == 1).all()
    assert abs(later.mean() - 0.5) < 0.15  # four standard deviations
    assert abs(kept.mean() - 0.25) < 0.13
    np.testing.assert_allclose(found[200:], unit[200:], rtol=1e-12)
    net.net.eval()
    net.set(weight=w).run({"x": x, "label": label}, {"y": dy})
    np.testing.assert_array_equal(net.layer.weight.detach(), w)


def test_exact_gradient(layer_net, rng):
    """The derivative of the forward, through margin and normalisation; the weight stays raw."""
    text = layer("num_output: 5 type: TRIPLE base: 2 gradient: EXACT")
    x, w, dy = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), rng.normal(size=(6, 5))
    label = np.array([0, 4, 2, 2, 1, 3])
    net = layer_net(text, x=x.shape, label=(6,))
    net.net.double()
    result = net.set(weight=w).run({"x": x, "label": label}, {"y": dy})
    np.testing.assert_array_equal(net.layer.weight.detach().numpy(), w)
    lam = net.layer.annealing.at(1)
    dx, dweight = a_softmax.exact_backward(dy, x, w, label, lam, 3)
    np.testing.assert_allclose(result.tops["y"], a_softmax.forward(x, w, label, lam, 3), rtol=1e-12)
    np.testing.assert_allclose(result.param_diffs["weight"], dweight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-12)


def test_gradient_is_a_field_that_caffes_writers_keep():
    """A reader without the field, as Caffe is, keeps it among the unknown ones."""
    param = schema.message("MarginInnerProductParameter")(num_output=7, gradient=1)
    file = descriptor_pb2.FileDescriptorProto(name="original.proto", package="original")
    message = file.message_type.add(name="MarginInnerProductParameter")
    message.field.add(name="num_output", number=1, type=13, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    original = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("original.MarginInnerProductParameter")
    ).FromString(param.SerializeToString())
    original.num_output = 9
    again = type(param).FromString(original.SerializeToString())
    assert (again.num_output, again.gradient) == (9, again.EXACT)
