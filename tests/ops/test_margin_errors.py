"""Every kind of bad input, by the message that it gets."""

import pytest
import torch
from torch.autograd import forward_ad

import sphereface
from margin_samples import op_arguments, sample
from sphereface import SphereFaceError
from sphereface.errors import NonFiniteError

OPS = torch.ops.sphereface

BAD = {
    "label above": (lambda a: a["label"].fill_(17), r"label\[0\] is 17; expected 0 to 16"),
    "label below": (lambda a: a["label"][4:5].fill_(-1), r"label\[4\] is -1; expected 0 to 16"),
    "labels": (lambda a: a.update(label=a["label"][:3]), r"label has shape \(3\); expected \(9,\)"),
    "label dtype": (
        lambda a: a.update(label=a["x"][:, 0]),
        "label has dtype float64; expected int64",
    ),
    "features": (lambda a: a.update(x=a["x"][:, :5]), r"weight has shape \(17, 13\).*\(N, 5\)"),
    "dimensions": (lambda a: a.update(x=a["x"][0]), r"x has shape \(13\); expected \(M, K\)"),
    "mixed dtype": (lambda a: a.update(x=a["x"].float()), "weight has dtype float64 and x float32"),
    "half": (
        lambda a: a.update(x=a["x"].half(), weight=a["weight"].half()),
        "dtype float16; on the CPU expected float32, float64 or bfloat16",
    ),
    "x nan": (lambda a: a["x"][6, 2:3].fill_(float("nan")), "x has a NaN.* in row 6"),
    "x inf": (lambda a: a["x"][8, 2:3].fill_(float("inf")), "x has a NaN.* in row 8"),
    "weight nan": (lambda a: a["weight"][16, :1].fill_(float("nan")), "weight has a NaN.* row 16"),
    "lambda negative": (lambda a: a.update(lambda_=-1.0), "lambda_ is -1; expected a finite"),
    "lambda nan": (lambda a: a.update(lambda_=float("nan")), "lambda_ is nan"),
    "lambda": (lambda a: a.update(lambda_=torch.ones(2)), r"lambda_ has shape \(2\).*one value"),
}


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case, gradient, rng):
    change, message = BAD[case]
    x, weight, label, _ = sample(rng)
    arguments = {"x": x, "weight": weight, "label": label, "lambda_": 5.0}
    change(arguments)
    of_values = case in ("label above", "label below", "x nan", "x inf", "weight nan",
                         "lambda negative", "lambda nan")  # fmt: skip
    with pytest.raises(SphereFaceError if of_values else RuntimeError, match=message):
        sphereface.margin_inner_product(**arguments, gradient=gradient)


@pytest.mark.parametrize("name", ["weight", "label", "lambda_"])
@pytest.mark.parametrize("elsewhere", ["meta", pytest.param("cpu", marks=pytest.mark.cuda)])
def test_mixed_devices_are_named(elsewhere, name, rng):
    device = "cpu" if elsewhere == "meta" else "cuda"
    x, weight, label, _ = sample(rng, device=device)
    arguments = {
        "x": x,
        "weight": weight,
        "label": label,
        "lambda_": torch.tensor(5.0, device=device),
    }
    arguments[name] = arguments[name].to(elsewhere)
    with pytest.raises(RuntimeError, match=f"{name} is on {elsewhere} and x on {x.device}"):
        sphereface.margin_inner_product(**arguments, gradient="exact")


@pytest.mark.parametrize("grad_shape", [(9, 16), (8, 17)])
def test_bad_grad_is_named(grad_shape, rng):
    _, x, weight, *rest = op_arguments(rng, "cpu", False, True, False)
    grad = torch.zeros(grad_shape)
    with pytest.raises(RuntimeError, match=r"grad has shape .*expected \(9, 17\)"):
        OPS.margin_inner_product_input_gradient(grad, x, weight, weight[:0], *rest)
    with pytest.raises(RuntimeError, match=r"grad has shape .*expected \(9, 17\)"):
        OPS.margin_inner_product_weight_gradient(grad, x, weight, *rest)


@pytest.mark.parametrize("margin", [0, 0.5, "QUINTUPLE", float("nan"), None])
def test_bad_margin_is_named(margin, rng):
    x, weight, label, _ = sample(rng)
    with pytest.raises(SphereFaceError, match="margin is .*SINGLE, DOUBLE, TRIPLE, QUADRUPLE"):
        sphereface.margin_inner_product(x, weight, label, 5.0, margin)


def test_bad_gradient_is_named(rng):
    x, weight, label, _ = sample(rng)
    with pytest.raises(SphereFaceError, match='gradient is \'true\'; expected "caffe" or "exact"'):
        sphereface.margin_inner_product(x, weight, label, 5.0, gradient="true")


def test_in_place_needs_contiguous_rows(rng):
    x, weight, label, _ = sample(rng)
    with pytest.raises(RuntimeError, match=r"normalised in place and needs contiguous rows"):
        sphereface.margin_inner_product(x, weight.t().contiguous().t(), label, 5.0)


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_an_error_of_values_has_its_class(gradient, rng):
    x, weight, label, _ = sample(rng)
    bad = x.clone()
    bad[2, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"^x has a NaN or infinite value in row 2; the net"):
        sphereface.margin_inner_product(bad, weight, label, 5.0, gradient=gradient)
    with pytest.raises(NonFiniteError, match=r"^weight has a NaN or infinite value in row 0; an"):
        sphereface.margin_inner_product(x, weight * float("inf"), label, 5.0, gradient=gradient)


def test_no_memory_is_told_as_such():
    # 2^47 bytes: beyond the address space, whatever the system promises.
    x, weight = torch.zeros(1, 1).expand(2**21, 1), torch.zeros(1, 1).expand(2**24, 1)
    label = torch.zeros(2**21, dtype=torch.int64)
    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"^no memory on cpu for a tensor of shape \(2097152, 16777216\) and dtype float32$",
    ):
        sphereface.margin_inner_product(x, weight, label, 5.0, gradient="exact")


@pytest.mark.parametrize("name", ["x", "weight"])
@pytest.mark.parametrize("transform", ["dual", "jvp", "jacfwd"])
def test_forward_mode_is_refused(transform, name, rng):
    arguments = dict(zip(("x", "weight", "label"), sample(rng)[:3], strict=True))
    value = arguments[name]

    def loss(changed):
        given = {**arguments, name: changed}
        return sphereface.margin_inner_product(**given, lambda_=5.0, gradient="exact").sum()

    def dual():
        with forward_ad.dual_level():
            loss(forward_ad.make_dual(value, torch.ones_like(value)))

    runs = {
        "dual": dual,
        "jvp": lambda: torch.func.jvp(loss, (value,), (value,)),
        "jacfwd": lambda: torch.func.jacfwd(loss)(value),
    }
    with pytest.raises(RuntimeError, match="margin_inner_product has no forward-mode derivative"):
        runs[transform]()


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev, torch.func.hessian])
def test_torch_func_is_refused(transform, rng):
    x, weight, label, _ = sample(rng)
    with pytest.raises(RuntimeError, match=r"margin_inner_product (does not work|has no)"):
        transform(lambda x: sphereface.margin_inner_product(x, weight, label, 5.0).sum())(x)


LEAST = -(2**63)


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("loss", [False, True])
def test_the_least_label_is_not_ignored_by_itself(loss, gradient):
    operator = sphereface.margin_softmax_loss if loss else sphereface.margin_inner_product
    x, weight = torch.eye(3), torch.eye(3)
    label = torch.tensor([0, LEAST, 2])
    with pytest.raises(SphereFaceError, match=rf"label\[1\] is {LEAST}; expected 0 to 2 .*; pass"):
        operator(x, weight, label, 1.0, gradient=gradient)
    with pytest.raises(SphereFaceError, match=rf"label\[1\] is {LEAST}; .* or ignore_index -1"):
        operator(x, weight, label, 1.0, gradient=gradient, ignore_index=-1)


@pytest.mark.parametrize("operator", ["margin_inner_product", "margin_softmax_loss"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(20.0).as_strided((6, 8), (2, 1)),
        lambda: torch.ones(1, 8).expand(6, 8),
    ],
)
def test_rows_that_share_memory_are_not_normalised(make, operator):
    weight = make()
    before = weight.clone()
    x, label = torch.ones(2, 8), torch.tensor([0, 5])
    run = getattr(sphereface, operator)
    with pytest.raises(RuntimeError, match=r"weight has rows that share memory \(strides \(\d, 1"):
        run(x, weight, label, 1.0)
    assert torch.equal(weight, before)
    # Only to read them does no harm; rows with a gap between them are written as they are.
    exact = run(x, weight, label, 1.0, gradient="exact")
    torch.testing.assert_close(exact, run(x, before.clone(), label, 1.0, gradient="exact"))
    gap = torch.zeros(6, 10)[:, :8].copy_(before)
    torch.testing.assert_close(run(x, gap, label, 1.0), exact)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_is_right_or_refused():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, generator=generator)
    weight = torch.randn(2, 6, 8, generator=generator)
    label = torch.tensor([0, 5, 2, 1])

    def run(x, weight, gradient):
        return sphereface.margin_inner_product(x, weight, label, 5.0, gradient=gradient)

    for gradient in ("caffe", "exact"):
        one = weight[0].clone()
        found = torch.vmap(lambda rows: run(rows, one, gradient))(x)  # noqa: B023 - runs here
        torch.testing.assert_close(found, torch.stack([run(rows, one, gradient) for rows in x]))
    found = torch.vmap(lambda rows, w: run(rows, w, "exact"))(x, weight)
    pairs = zip(x, weight, strict=True)
    torch.testing.assert_close(found, torch.stack([run(rows, w, "exact") for rows, w in pairs]))
    with pytest.raises(RuntimeError, match='under torch.vmap on a batched weight; .*"exact"'):
        torch.vmap(lambda rows, w: run(rows, w, "caffe"))(x, weight)
