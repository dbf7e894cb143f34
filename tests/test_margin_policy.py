import math

import pytest

from sphereface import SphereFaceError
from sphereface.margin_policy import (
    COCO,
    ArcFace,
    ASoftmax,
    CombinedMargin,
    CosFace,
    CosineMargin,
    L2Softmax,
    LSoftmax,
    NormFace,
    SphereFace2,
    SphereFaceR,
    policy_of,
)


def test_members_are_combined_margins():
    assert CosFace(0.2, 30) == CombinedMargin(1, 0, 0.2, 30)
    assert ArcFace(0.3, 16, easy=True) == CombinedMargin(1, 0.3, 0, 16, easy=True)
    assert NormFace(25) == COCO(25) == CombinedMargin(1, 0, 0, 25)
    assert L2Softmax(16) == LSoftmax(1, 16)
    assert SphereFaceR(1.5, 30) == ASoftmax(1.5, 30, detached=True)
    # The papers' values.
    assert CosFace() == CombinedMargin(m3=0.35, scale=64)
    assert ArcFace() == CombinedMargin(m2=0.5, scale=64)
    assert SphereFaceR() == ASoftmax(1.5, 30, detached=True)
    assert SphereFace2() == SphereFace2(0.4, 30, 3, 0.7)


@pytest.mark.parametrize(
    ("margin", "core"),
    [
        (3, (0, [3.0])),
        (1.5, (0, [1.5])),
        ("QUADRUPLE", (0, [4.0])),
        (SphereFaceR(1.7), (1, [1.7])),
        (CosFace(0.2), (2, [1.0, 0.0, 0.2])),
        (CombinedMargin(1.1, 0.2, 0.3, easy=True), (3, [1.1, 0.2, 0.3])),
        (LSoftmax(2), (4, [2.0])),
        (CosineMargin(20, "angle", m2=0.5), (6, [20.0, 1.0, 1.0, 0.5, 0.0])),
        (SphereFace2(0.3, 40, 2, 0.6), (5, [0.3, 2.0, 0.6, 40.0])),
    ],
)
def test_what_the_operators_take(margin, core):
    assert policy_of(margin).core() == core


@pytest.mark.parametrize(
    ("margin", "caffe"),
    [
        (4, False),
        (SphereFaceR(), False),
        (SphereFace2(), False),
        (CosFace(), True),
        (LSoftmax(), True),
    ],
)
def test_whose_gradient_is_always_exact(margin, caffe):
    policy = policy_of(margin)
    assert (policy.is_exact("caffe"), policy.is_exact("exact")) == (caffe, True)
    with pytest.raises(SphereFaceError, match="gradient is 'true'"):
        policy.is_exact("true")


@pytest.mark.parametrize("name", ["m1", "m2", "m3", "scale"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1"])
def test_bad_values_are_named(name, value):
    with pytest.raises(SphereFaceError, match=f"CombinedMargin: {name} is "):
        CombinedMargin(**{name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ASoftmax(0.5), "ASoftmax: m is 0.5"),
        (lambda: LSoftmax(2, bias=3.0), "LSoftmax: a bias with m = 2"),
        (lambda: SphereFace2(alpha=1.1), "SphereFace2: alpha is 1.1"),
        (lambda: SphereFace2(scale=None), "SphereFace2: scale is None"),
        (lambda: SphereFace2().initial_bias(1), "1 classes and alpha 0.7; expected at least 2"),
        (lambda: policy_of(0.9), r"margin is 0.9; expected the m >= 1"),
        (lambda: policy_of(None), r"margin is None; expected the m >= 1"),
    ],
)
def test_other_bad_values_are_named(make, message):
    with pytest.raises(SphereFaceError, match=message):
        make()


def test_initial_bias_minimises_the_loss_at_right_angles():
    policy, classes = SphereFace2(0.4, 30, 3, 0.7), 10572
    g = 2 * 0.5**3 - 1

    def loss(b):
        own, other = 30 * (g - 0.4) + b, 30 * (g + 0.4) + b
        return 0.7 * math.log1p(math.exp(-own)) + 0.3 * (classes - 1) * math.log1p(math.exp(other))

    b = policy.initial_bias(classes)
    assert loss(b) < min(loss(b - 1e-3), loss(b + 1e-3))
