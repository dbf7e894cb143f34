"""Operations of a folded net as steps of csrc/cpu/forward_program.h, which runs them in one call.

Convolutions of one group or depthwise, short inner products, channelwise steps, pooling and softmax
over channels, in float32 on the CPU. Constants are laid out once; a program is made for the shapes
of a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.layers.convolution import Convolution
from sphereface.caffe.layers.pooling import Pooling
from sphereface.caffe.layers.softmax import Softmax
from sphereface.inference.fused.constants import Constants, is_depthwise
from sphereface.inference.fused.image_runs import image_runs
from sphereface.inference.fused.join import Heads, Pooled, is_planar
from sphereface.inference.fused.memory import OWN, SCRATCH, Memory, Place
from sphereface.inference.fused.operation import Operation, is_hooked

__all__ = ["Segment", "can_run", "make_segment"]

_MOST_CHANNELS = 4096  # kZeros
_MOST_TAPS = 121  # of a depthwise kernel
# A longer inner product reads its weight once a call, as it is in the net: no copy pays for itself.
_LONG_WEIGHT = 1 << 20
(_CONVOLUTION, _DEPTHWISE, _ELEMENTWISE, _MAX, _AVERAGE, _SOFTMAX, _INTERLEAVE, _BY_IMAGE,
 _PLANAR, _STEP_OF_HEADS) = range(10)  # fmt: skip
_NO_WINDOW = (1, 1, 1, 1, 0, 0, 1, 1)
_NO_POOLING: tuple[int, ...] = (0,) * 6
_NO_HEADS: tuple[int, ...] = (0,) * 5
_NO_ACTIVATION, _RELU, _SLOPES = range(3)


def can_run(operation: Operation, shapes: Sequence[Shape]) -> bool:
    """Tell whether there is a step for `operation`, for slots of these shapes."""
    if not operation.bottoms or not operation.tops:
        return False
    bottom, top = shapes[operation.bottoms[0]], shapes[operation.tops[0]]
    if operation.parts:
        # Of an inner product's picture the step would read one pixel.
        pixel = not isinstance(operation, Heads) or not operation.parts[0].is_flattening
        pixel = pixel or set(bottom[2:]) <= {1}
        return pixel and all(can_run(part, shapes) for part in operation.parts)
    if len(bottom) not in (2, 4) or 0 in bottom:
        return False
    layer = operation.layer
    if layer is None:
        return True
    if operation.is_layer:
        return not is_hooked(layer) and _is_step(layer, bottom, top)
    if layer.weight.dtype != torch.float32 or layer.weight.device.type != "cpu":
        return False
    if not isinstance(layer, Convolution):
        return layer.weight.numel() <= _LONG_WEIGHT and bottom[1] <= _MOST_CHANNELS
    if len(bottom) != 4:
        return False
    taps = layer.weight[0, 0].numel()
    if layer.group == 1:
        return layer.channels <= _MOST_CHANNELS
    return layer.group == layer.channels == layer.num_output and taps <= _MOST_TAPS


def _is_step(layer: Layer, bottom: Shape, top: Shape) -> bool:
    if type(layer) is Softmax:
        return layer.axis % len(bottom) == 1
    if type(layer) is not Pooling:
        return False
    if layer.method not in ("MAX", "AVE") or layer.top_count != 1 or len(bottom) != 4:
        return False
    # A window that begins behind the picture is Caffe's own affair.
    return all(
        (out - 1) * stride - pad < size
        for out, stride, pad, size in zip(top[2:], layer.stride, layer.pad, bottom[2:], strict=True)
    )


@dataclass
class Segment:
    """A run of steps: a program and what it reads and writes.

    Attributes
    ----------
    program : Tensor of shape (steps, fields), int64
    scratch : int
        Floats of memory that it needs; its first buffer.
    reads, writes : list of int
        Slots of the other buffers, in order.
    shapes : list of tuple
        Of `writes`.
    planes : set of int
        Those of `writes` that are in NCHW order, not by pixel.
    """

    program: Tensor
    scratch: int
    reads: list[int]
    writes: list[int]
    shapes: list[Shape]
    planes: set[int]


def make_segment(
    operations: Sequence[Operation],
    constants: Constants,
    shapes: Sequence[Shape],
    needed: Collection[int],
    planes: Collection[int] = (),
    parts: int = 0,
) -> Segment:
    """Return the program of consecutive operations.

    Parameters
    ----------
    operations : sequence of Operation
        `constants` has all of them.
    constants : Constants
    shapes : sequence of tuple
        Of all slots in this pass.
    needed : collection of int
        Slots that are read behind these operations.
    planes : collection of int
        Slots whose values come in NCHW order, not by pixel.
    parts : int
        Threads that take images of their own where that is faster; 0: none do.
    """
    # Heads' tops are buffers side by side.
    made = dict.fromkeys(slot for operation in operations for slot in operation.tops)
    read = dict.fromkeys(slot for operation in operations for slot in operation.bottoms)
    reads = [slot for slot in read if slot not in made]
    writes = [slot for slot in made if slot in needed]
    where: dict[int, Place] = {
        slot: (buffer + 1, 0) for buffer, slot in enumerate([*reads, *writes])
    }
    last = {slot: index for index, o in enumerate(operations) for slot in o.bottoms}
    runs = list(image_runs(operations, shapes, parts)) if parts else []
    starts, ends = {run.start: run for run in runs}, {run.stop - 1: run for run in runs}
    memory, rows, head, stop = Memory(), [], 0, 0

    def place(slot: int) -> Place:
        images, *image = shapes[slot]
        return memory.take(images, _count(image), last.get(slot, -1) < stop)

    def interleave(slots: Iterable[int]) -> None:
        for slot in slots:
            given, where[slot] = where[slot], place(slot)
            rows.append(_interleaving(given, where[slot], shapes[slot]))

    images = {slot: where[slot] for slot in reads if slot in planes and len(shapes[slot]) == 4}
    turned = [slot for slot in images if not _only_as_planes(slot, operations, images)]
    first = starts[0].stop if 0 in starts else 0
    interleave(slot for slot in turned if last[slot] >= first)
    for index, operation in enumerate(operations):
        if index in starts:
            memory.begin_run()
            head, stop = len(rows), starts[index].stop
            rows.append([])
        if index == 0:
            interleave(slot for slot in turned if last[slot] < first)
        top = operation.tops[0]
        over = [slot for slot in set(operation.bottoms)
                if where[slot][0] in (SCRATCH, OWN) and last[slot] == index]  # fmt: skip
        if top not in where:
            heir = _overwritten(operation, over)
            if heir is not None and (where[heir][0] == SCRATCH or last.get(top, -1) < stop):
                over.remove(heir)
                where[top] = where[heir]
            else:
                where[top] = place(top)
        for slot in over:
            memory.give_back(where[slot])
        rows.append(_row(operation, constants, shapes, where, images))
        if index in ends:
            count = shapes[operation.tops[0]][0]
            rows[head] = _run_head(memory.end_run(parts), count, parts, len(rows) - head - 1)
            stop = 0
    program = torch.tensor(rows, dtype=torch.int64)
    in_planes = {slot for o in operations if isinstance(o, Heads) for slot in o.tops}
    written = [shapes[slot] for slot in writes]
    return Segment(program, memory.size, reads, writes, written, in_planes)


def _overwritten(operation: Operation, over: Collection[int]) -> int | None:
    """Return the bottom, of those read for the last time, that the top may overwrite."""
    *read, added = operation.bottoms
    # A convolution of what is added reads pixels around the one that it writes.
    if operation.residual and added in over and added not in read:
        return added
    if operation.layer is None and not operation.parts and operation.bottoms[0] in over:
        return operation.bottoms[0]
    return None


def _only_as_planes(slot: int, operations: Sequence[Operation], images: Collection[int]) -> bool:
    return all(_reads_planes(o, images) for o in operations if slot in o.bottoms)


def _reads_planes(operation: Operation, images: Collection[int]) -> bool:
    return isinstance(operation, Pooled) or is_planar(operation, images)


def _row(
    operation: Operation,
    constants: Constants,
    shapes: Sequence[Shape],
    where: Mapping[int, Place],
    images: Mapping[int, Place],
) -> list[int]:
    at = constants.of(operation)
    assert at is not None
    main = operation.parts[0] if isinstance(operation, Pooled) else operation
    slot, layer = operation.bottoms[0], main.layer
    bottom, top = _image(shapes[slot]), _image(shapes[operation.tops[0]])
    kind, window, outputs = _ELEMENTWISE, _NO_WINDOW, top[1]
    if isinstance(layer, Convolution):
        kind = _DEPTHWISE if is_depthwise(layer) else _CONVOLUTION
        window = (*layer.kernel, *layer.stride, *layer.pad, *layer.dilation)  # type: ignore[assignment]
    elif isinstance(layer, Pooling):
        kind = _MAX if layer.method == "MAX" else _AVERAGE
        kernel = layer.kernel or (bottom[2], bottom[3])
        window = (*kernel, *layer.stride, *layer.pad, 1, 1)
    elif isinstance(layer, Softmax):
        kind = _SOFTMAX
    elif operation.product:
        kind, window = _CONVOLUTION, (*at.kernel, 1, 1, 0, 0, 1, 1)
    given, pooling, heads = where[slot], _NO_POOLING, _NO_HEADS
    if _reads_planes(operation, images):
        kind, given = _PLANAR, images[slot]
    if isinstance(operation, Pooled):
        pool = operation.parts[1].layer
        assert isinstance(pool, Pooling)
        assert pool.kernel is not None
        pooling = (*pool.kernel, *pool.stride, *pool.pad)
    if isinstance(operation, Heads):
        channels = [shapes[slot][1] for slot in operation.tops]
        bits = sum(1 << i for i, head in enumerate(operation.heads) if head.softmax)
        kind, outputs = _STEP_OF_HEADS, sum(channels)
        heads = (*channels, *_NO_HEADS[len(channels) + 1 :], bits)
    activation = _NO_ACTIVATION
    if main.slopes is not None:
        activation = _RELU if main.is_relu else _SLOPES
    residual = where[operation.bottoms[-1]] if operation.residual else (-1, 0)
    return [
        kind, *given, *where[operation.tops[0]], *residual,
        bottom[0], bottom[2], bottom[3], bottom[1], top[2], top[3], outputs,
        *window, *pooling, *heads,
        at.weight, at.bias, at.slopes, activation, int(operation.residual_first),
    ]  # fmt: skip


def _interleaving(given: Place, to: Place, shape: Shape) -> list[int]:
    images, channels, height, width = shape
    return [
        _INTERLEAVE, *given, *to, -1, 0,
        images, height, width, channels, height, width, channels,
        *_NO_WINDOW, *_NO_POOLING, *_NO_HEADS, -1, -1, -1, _NO_ACTIVATION, 0,
    ]  # fmt: skip


def _run_head(memory: tuple[int, int], images: int, parts: int, steps: int) -> list[int]:
    start, size = memory
    return [
        _BY_IMAGE, -1, 0, SCRATCH, start, -1, 0,
        images, steps, 1, size, parts, 1, 1,
        *_NO_WINDOW, *_NO_POOLING, *_NO_HEADS, -1, -1, -1, _NO_ACTIVATION, 0,
    ]  # fmt: skip


def _count(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()


def _image(shape: Shape) -> Shape:
    return shape if len(shape) == 4 else (*shape, 1, 1)
