from __future__ import annotations

import pytest
import torch

from sphereface.ops.forward_program import run_program

# A 1x1 convolution of a 3x2 picture of 4 channels to 5; its fields by name.
FIELDS = {
    "kind": 0, "in_buffer": 0, "in": 0, "out_buffer": 1, "out": 0, "residual_buffer": -1,
    "residual": 0, "images": 1, "height": 3, "width": 2, "channels": 4, "out_height": 3,
    "out_width": 2, "out_channels": 5, "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1,
    "pad_h": 0, "pad_w": 0, "dilation_h": 1, "dilation_w": 1,
    "pool_h": 0, "pool_w": 0, "pool_stride_h": 0, "pool_stride_w": 0, "pool_pad_h": 0,
    "pool_pad_w": 0, "head_0": 0, "head_1": 0, "head_2": 0, "head_3": 0, "softmaxed": 0,
    "weight": 0, "bias": -1, "slopes": -1, "activation": 0, "residual_first": 0,
}  # fmt: skip


def run(constants=64, shape=(1, 4, 3, 2), **changes):
    row = list((FIELDS | changes).values())
    picture = torch.ones(shape).contiguous(memory_format=torch.channels_last)
    out = torch.zeros(1, 5, 3, 2).contiguous(memory_format=torch.channels_last)
    run_program([picture, out], torch.ones(constants), torch.tensor([row]))
    return out


def test_the_step_of_these_tests_runs():
    assert torch.equal(run(), torch.full((1, 5, 3, 2), 4.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 5}, {"kind": 6}, {"kind": 9}, {"kind": 10}, {"kind": -1},
        {"in_buffer": -2}, {"out_buffer": -2}, {"residual_buffer": -2},
        {"in_buffer": 2}, {"in_buffer": -1}, {"in": 1}, {"in": -4},
        {"out_buffer": 7}, {"out": 1}, {"out": 2**62}, {"residual_buffer": 5},
        {"residual_buffer": 0}, {"images": 2}, {"images": 0}, {"height": 4}, {"channels": 5},
        {"out_channels": 6}, {"out_height": 4}, {"kernel_h": 2}, {"kernel_h": 2**40},
        {"stride_h": 0}, {"pad_h": -1}, {"dilation_w": 0}, {"weight": 1}, {"weight": -1},
        {"bias": 60}, {"activation": 3}, {"activation": 2}, {"activation": 2, "slopes": 49},
        {"kind": 1}, {"kind": 2}, {"kind": 3}, {"kind": 3, "out_channels": 4, "pad_h": 1},
        {"constants": 63}, {"shape": (1, 4, 3, 1)}, {"images": 2**23, "height": 2**23},
    ],
    ids=str,
)  # fmt: skip
def test_steps_that_leave_their_memory_are_refused(changes):
    with pytest.raises(RuntimeError, match="step 0: "):
        run(**changes)


# The step of these tests over 4 pictures in 2 parts, through what each part has of its own.
RUN = {
    "kind": 7, "out_buffer": 2, "residual_buffer": -1, "images": 4, "height": 2, "width": 1,
    "channels": 32, "out_height": 2,
}  # fmt: skip
INTO = {"out_buffer": -2, "images": 4}
FROM = {"kind": 2, "in_buffer": -2, "images": 4, "channels": 5, "weight": -1}


def run_images(head=RUN, into=INTO, out=FROM, more=()):
    rows = [list((FIELDS | row).values()) for row in (head, into, out, *more)]
    pictures = torch.arange(96.0).view(4, 4, 3, 2).contiguous(memory_format=torch.channels_last)
    outs = torch.zeros(4, 5, 3, 2).contiguous(memory_format=torch.channels_last)
    buffers = [pictures, outs, torch.full((64,), torch.nan)]
    run_program(buffers, torch.ones(64), torch.tensor(rows))
    return pictures, outs


def test_a_run_of_images():
    pictures, outs = run_images()
    assert torch.equal(outs, pictures.sum(1, keepdim=True).expand(4, 5, 3, 2))


@pytest.mark.parametrize(
    ("step", "where", "changes"),
    [
        (0, "head", {"height": 3}), (0, "head", {"height": 0}), (0, "head", {"images": 0}),
        (0, "head", {"channels": 33}), (0, "head", {"out": 1}), (0, "head", {"out": -1}),
        (0, "head", {"out_height": 0}), (0, "head", {"out_height": 2**40}),
        (0, "head", {"out_buffer": 3}), (0, "head", {"out_buffer": -2}),
        (1, "head", {"images": 3}), (1, "head", {"channels": 29}), (1, "into", {"out": 3}),
        (1, "into", {"in": 1}), (1, "into", {"kind": 7}), (2, "out", {"in": -1}),
        (2, "head", {"height": 1}), (2, "out", {"residual_buffer": -2, "residual": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_runs_that_leave_their_memory_are_refused(step, where, changes):
    given = {"head": RUN, "into": INTO, "out": FROM}
    with pytest.raises(RuntimeError, match=f"step {step}: "):
        run_images(**{**given, where: given[where] | changes})


# The same as a planar step with its pooling, and as heads of 2 and 3 channels.
PLANAR = {
    "kind": 8, "out_height": 2, "pool_h": 2, "pool_w": 1, "pool_stride_h": 2, "pool_stride_w": 1
}  # fmt: skip
HEADS = {"kind": 9, "head_0": 2, "head_1": 3, "softmaxed": 1}


def run_planar(**changes):
    out = torch.zeros(20)
    row = list((FIELDS | PLANAR | changes).values())
    run_program([torch.arange(24.0), out], torch.ones(64), torch.tensor([row]))
    return out


def run_heads(**changes):
    outs = [torch.zeros(12), torch.zeros(18)]
    row = list((FIELDS | HEADS | changes).values())
    run_program([torch.ones(24), *outs], torch.ones(64), torch.tensor([row]))
    return outs


def test_the_planar_step_of_these_tests_runs():
    sums = torch.arange(24.0).view(4, 6).sum(0)
    assert torch.equal(run_planar().view(4, 5), sums[2:, None].expand(4, 5))


def test_the_heads_of_these_tests_run():
    first, second = run_heads()
    assert torch.equal(first, torch.full((12,), 0.5))
    assert torch.equal(second, torch.full((18,), 4.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 5}, {"stride_w": 3}, {"kernel_h": 122}, {"kernel_h": 4},
        {"kernel_h": 2, "dilation_h": 2**24},
        {"pool_w": 0}, {"pool_h": -1}, {"pool_h": 122}, {"pool_stride_h": 0}, {"pool_pad_h": -1},
        {"pool_pad_h": 2}, {"out_height": 3}, {"out_width": 3}, {"images": 2}, {"out_channels": 17},
        {"residual_buffer": 1}, {"pool_h": 0}, {"weight": 1}, {"pool_stride_h": 2**40},
    ],
    ids=str,
)  # fmt: skip
def test_planar_steps_that_leave_their_memory_are_refused(changes):
    with pytest.raises(RuntimeError, match="step 0: "):
        run_planar(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"head_0": 3}, {"head_0": -1}, {"head_1": 2}, {"head_0": 0, "head_1": 5}, {"head_3": 1},
        {"out_channels": 17}, {"softmaxed": 4}, {"softmaxed": 16}, {"softmaxed": -1}, {"out": 1},
        {"out_buffer": 2}, {"out_buffer": -1}, {"out_buffer": 2**63 - 1}, {"kernel_h": 2},
        {"stride_w": 2}, {"pad_h": 1}, {"out_height": 2}, {"residual_buffer": 1}, {"channels": 5},
        {"weight": 1}, {"bias": 49}, {"head_1": 2**62}, {"images": 2},
    ],
    ids=str,
)  # fmt: skip
def test_heads_that_leave_their_memory_are_refused(changes):
    with pytest.raises(RuntimeError, match="step 0: "):
        run_heads(**changes)


def test_tensors_that_it_cannot_take():
    row, one = torch.tensor([list(FIELDS.values())]), torch.ones(64)
    with pytest.raises(RuntimeError, match="float64"):
        run_program([one.double()], one, row)
    with pytest.raises(RuntimeError, match="holes"):
        run_program([one[::2]], one, row)
    with pytest.raises(RuntimeError, match="expected .steps, 38."):
        run_program([one], one, row[:, 1:])
