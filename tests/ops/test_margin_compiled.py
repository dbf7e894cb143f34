"""The operators under torch.library.opcheck, torch.compile and torch.export."""

import pytest
import torch
import torch.nn.functional as F

import sphereface
from margin_samples import op_arguments, sample
from sphereface.margin_policy import (
    ArcFace,
    CombinedMargin,
    CosineMargin,
    LSoftmax,
    SphereFace2,
    SphereFaceR,
)

OPS = torch.ops.sphereface
N, K = 24, 7  # a multiple of 8: padded logits have columns that nobody writes
FAMILY = {
    "A-Softmax": (0, [4.0]),
    "real m": (0, [1.7]),
    "SphereFace-R": (1, [1.5]),
    "CosFace": (2, [1.0, 0.0, 0.35]),
    "ArcFace, easy": (3, [1.0, 0.5, 0.0]),
    "L-Softmax": (4, [1.0]),
    "SphereFace2": (5, [0.4, 3.0, 0.7, 30.0]),
    "cosines that are ready": (6, [8.0, 1.0, 1.0, 0.3, 0.0]),
}


# opcheck of torch 2.14 reads .grad of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    ("exact", "unit_rows", "keep"),
    [(False, True, True), (True, False, False), (True, False, True)],
)
def test_opcheck_of_the_layer(exact, unit_rows, keep, requires_grad, rng, device):
    _, *arguments = op_arguments(rng, device, exact, unit_rows, requires_grad)
    torch.library.opcheck(OPS.margin_inner_product, (*arguments, keep))
    grad, x, weight, *rest = op_arguments(rng, device, exact, unit_rows, False)
    unit = F.normalize(weight) if keep and not unit_rows else weight[:0]
    torch.library.opcheck(OPS.margin_inner_product_input_gradient, (grad, x, weight, unit, *rest))
    torch.library.opcheck(OPS.margin_inner_product_weight_gradient, (grad, x, weight, *rest))


def test_opcheck_of_the_small_ops(rng, device):
    weight = sample(rng, dtype=torch.float32, device=device)[1]
    torch.library.opcheck(OPS.normalize_rows_, (weight,))
    count = torch.tensor(7, device=device)
    torch.library.opcheck(OPS.annealed_lambda, (count, 1000.0, 0.12, 1.0, 5.0))


def loss_arguments(rng, family, keep, device):
    x, weight, label, _ = sample(rng, 6, K, N, device=device)
    number, values = FAMILY[family]
    scalar = torch.tensor(5.0, dtype=x.dtype, device=device)
    weights = torch.rand(N, dtype=x.dtype, device=device)
    options = [None] * 3 if number == 5 else [weights, weights.sum(), weights[label]]
    bias = weights + 1 if number > 3 else None
    smoothing = 0.0 if number == 5 else 0.1
    return (x, weight, label, scalar, 4 * scalar if number in (2, 3) else None, number, values,
            True, number in (4, 6), -1, smoothing, *options, bias, 0, N, keep, keep)  # fmt: skip


CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")
TRACED = (*CHECKS, "test_aot_dispatch_dynamic")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("family", FAMILY)
def test_opcheck_of_the_loss(family, keep, rng, device):
    checks = TRACED if (family, keep) in (("A-Softmax", True), ("SphereFace2", False)) else CHECKS
    arguments = loss_arguments(rng, family, keep, device)
    with torch.no_grad():
        _, lse, *_, logits, unit = OPS.margin_softmax(*arguments)
    bias = arguments[14]
    backward = (torch.ones_like(lse), lse, logits, unit, *arguments[:-2], True, True,
                bias is not None)  # fmt: skip
    torch.library.opcheck(OPS.margin_softmax, arguments, test_utils=checks)
    torch.library.opcheck(OPS.margin_softmax_rows, arguments, test_utils=checks)
    torch.library.opcheck(OPS.margin_softmax_backward, backward, test_utils=checks)
    for tensor in (*arguments[:2], arguments[4], bias):
        if tensor is not None:
            tensor.requires_grad_()
    # The backward writes into the logits: no graph can return them as well, and opcheck's would.
    # The tests below trace what uses the operator.
    torch.library.opcheck(OPS.margin_softmax, arguments, test_utils=CHECKS)


WAYS = {
    "inductor": {"memory": 10**6, "margin": CombinedMargin(m3=0.35, scale=16)},
    "aot_eager": {"memory": "lean", "margin": SphereFaceR(1.7), "products": "autocast"},
}


@pytest.mark.parametrize("backend", WAYS)
def test_compiled_loss_with_dynamic_sizes(backend, rng, device):
    options = WAYS[backend]

    def loss(x, weight, label):
        return sphereface.margin_softmax_loss(x, weight, label, 5.0, label_smoothing=0.1, **options)

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=backend)
    tolerance = 1e-2 if "products" in options else 1e-6
    autocast = torch.autocast(device, torch.bfloat16, enabled="products" in options)
    for rows, classes in ((6, 24), (9, 17)):
        x, weight, label, _ = sample(rng, rows, K, classes, torch.float32, device)
        results = []
        for function in (compiled, loss):
            a, w = (t.clone().requires_grad_() for t in (x, weight))
            with autocast:
                value = function(a, w, label)
            results.append((value.detach(), *torch.autograd.grad(value, (a, w)), w.detach()))
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    with autocast, torch._dynamo.config.patch(error_on_recompile=True):
        x, weight, label, _ = sample(rng, 12, K, 40, torch.float32, device)
        compiled(x.requires_grad_(), weight.requires_grad_(), label)


class Head(torch.nn.Module):
    """Loss and statistics of rows, and their logits."""

    def __init__(self, weight, margin):
        super().__init__()
        self.weight, self.margin = torch.nn.Parameter(weight), margin

    def forward(self, x, label):
        loss, stats = sphereface.margin_softmax_loss(
            x, self.weight, label, margin=self.margin, gradient="exact", return_stats=True
        )
        logits = sphereface.margin_inner_product(x, self.weight, label, 5.0, 4, "exact")
        return loss, stats.prediction, logits


@pytest.mark.parametrize(
    "margin", [4, ArcFace(), LSoftmax(2), SphereFace2(), CosineMargin(8, "angle", m2=0.3)], ids=str
)
def test_exported_with_a_batch_of_any_size(margin, rng):
    x, weight, label, _ = sample(rng, 6, K, N, torch.float32)
    head = Head(weight, margin)
    rows = {0: torch.export.Dim("rows", min=2, max=4096)}
    with torch.no_grad():
        program = torch.export.export(head, (x, label), dynamic_shapes=(rows, rows))
        x, _, label, _ = sample(rng, 11, K, N, torch.float32)
        for ours, eager in zip(program.module()(x, label), head(x, label), strict=True):
            torch.testing.assert_close(ours, eager)
