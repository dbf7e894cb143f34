"""A folded net that runs: programs for what csrc has, torch functions for the rest.

What differs from the net: gradients are not asked, values of blobs that are not wanted are never
made, and weights are copies, so that later changes of the net's are not seen.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.net import Net
from sphereface.inference.fused.constants import Constants
from sphereface.inference.fused.fold import fold
from sphereface.inference.fused.native import Segment, can_run, make_segment
from sphereface.inference.fused.operation import Operation
from sphereface.inference.fused.torch_steps import torch_step
from sphereface.ops.forward_program import run_program

__all__ = ["FusedNet"]

_SHAPES_REMEMBERED = 256
_FORMS_REMEMBERED = 2  # each has the weights once


class FusedNet:
    """Runs a net forward in TEST.

    Parameters
    ----------
    net : Net
        In the TEST phase, on its device and in its dtype.
    memory_format : torch.memory_format
        Of images between torch's convolutions.
    """

    def __init__(self, net: Net, memory_format: torch.memory_format = torch.channels_last) -> None:
        self._net, self._format = net, memory_format
        self._forms: OrderedDict[tuple[str, ...], _Form] = OrderedDict()

    def __call__(
        self, inputs: Mapping[str, Tensor], blobs: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Return the outputs and `blobs`, as `Net.forward`.

        Parameters
        ----------
        inputs : mapping of str to Tensor
            Every input of the net by name.
        blobs : sequence of str
            Blobs wanted besides the outputs; what they need is not folded.
        """
        return self.form(tuple(blobs)).run(inputs)

    def operations(self, inputs: Mapping[str, Tensor]) -> Iterator[_Part]:
        """Yield the operations of a pass for the outputs: names of layers, and what runs them.

        Each must be run before the next is asked for.
        """
        return self.form().parts(inputs)

    def form(self, blobs: tuple[str, ...] = ()) -> _Form:
        """Return the folded net that makes the outputs and `blobs`."""
        form = self._forms.get(blobs)
        if form is None:
            form = self._forms[blobs] = _Form(self._net, blobs, self._format)
            if len(self._forms) > _FORMS_REMEMBERED:
                self._forms.popitem(last=False)
        else:
            with contextlib.suppress(KeyError):  # another thread made others meanwhile
                self._forms.move_to_end(blobs)
        return form


class _Form:
    """A net folded for some results; plans by the shapes of the inputs."""

    def __init__(
        self, net: Net, blobs: tuple[str, ...], memory_format: torch.memory_format
    ) -> None:
        self._net, self._format = net, memory_format
        results = net.program(blobs).results
        self.folded = fold(net, [slot for _, slot in results])
        self._results = [(name, self.folded.source[slot]) for name, slot in results]
        self._names, self._slots = list(net.graph.inputs), list(net.graph.inputs.values())
        self._expected = net.graph.inputs.keys()
        self._count = len(net.graph.blob_names) + len(self.folded.added)
        # Python layers write into them, so the net has copies made.
        self._copies = any(layer.writes_bottoms for layer in net.layers)
        self._like = next((p for p in net.parameters()), torch.empty(0))
        built = self._shapes({})
        operations = [part for o in self.folded.operations for part in (o, *o.parts)]
        native = [o for o in operations if self._is_native(o, built)]
        self._constants = Constants(native, built)
        self._torch_steps: dict[int, Any] = {}
        self._plans: dict[tuple[Any, ...], list[_PlanStep]] = {}
        self._scratch: list[Tensor] = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the results."""
        plan, values = self._start(inputs)
        for step in plan:
            step(values)
        return {name: values[slot] for name, slot in self._results}

    def parts(self, inputs: Mapping[str, Tensor]) -> Iterator[_Part]:
        """Yield the operations of a pass, each to be run before the next."""
        plan, values = self._start(inputs)
        for step in plan:
            yield from step.parts(values)

    def _start(self, inputs: Mapping[str, Tensor]) -> tuple[list[_PlanStep], list[Any]]:
        """Return the plan of a pass, and the inputs in their slots."""
        if inputs.keys() == self._expected and not self._copies:
            plan = self._plans.get(_key([inputs[name].shape for name in self._names]))
            if plan is not None:
                values: list[Any] = [None] * self._count
                for name, slot in zip(self._names, self._slots, strict=True):
                    values[slot] = inputs[name]
                return plan, values
        values = self._net.input_values(inputs)  # which tells what is wrong with them
        values += [None] * len(self.folded.added)
        shapes = [tuple(values[slot].shape) for slot in self._slots]
        plan = self._plans.get(_key(shapes))
        return self._plan(shapes) if plan is None else plan, values

    def _shapes(self, given: dict[str, Shape]) -> list[Shape]:
        shapes = list(self._net.infer_shapes(given))
        return shapes + [shapes[slot] for slot in self.folded.added]

    def _is_native(self, operation: Operation, shapes: Sequence[Shape]) -> bool:
        return (
            self._like.dtype == torch.float32
            and self._like.device.type == "cpu"
            and can_run(operation, shapes)
        )

    def _plan(self, inputs: Sequence[Shape]) -> list[_PlanStep]:
        shapes = self._shapes(dict(zip(self._names, inputs, strict=True)))
        if len(self._plans) >= _SHAPES_REMEMBERED:
            self._plans.clear()
        plan = self._plans[_key(inputs)] = list(self._steps(shapes))
        return plan

    def _steps(self, shapes: Sequence[Shape]) -> Iterator[_PlanStep]:
        operations = [
            part
            for o in self.folded.operations
            for part in ([o] if not o.parts or self._runs_here(o, shapes) else o.parts)
        ]
        last = {slot: i for i, operation in enumerate(operations)
                for slot in (*operation.tops, *operation.bottoms)}  # fmt: skip
        last.update((slot, len(operations)) for _, slot in self._results)
        run: list[Operation] = []
        for index, operation in enumerate(operations):
            if self._runs_here(operation, shapes):
                run.append(operation)
                continue
            if run:
                yield self._segment(run, index, last, shapes)
                run = []
            frees = [slot for slot, end in last.items() if end == index]
            given = [slot for slot in operation.bottoms
                     if slot in self._slots and len(shapes[slot]) == 4]  # fmt: skip
            yield _TorchPlanStep(self._torch_step(operation), operation, frees, given, self._format)
        if run:
            yield self._segment(run, len(operations), last, shapes)

    def _runs_here(self, operation: Operation, shapes: Sequence[Shape]) -> bool:
        at = self._constants.of(operation)
        if at is None or not can_run(operation, shapes):
            return False
        bottom = shapes[operation.bottoms[0]]
        # An inner product's weight is in the order of the picture that it was built for.
        return not operation.is_flattening or tuple(bottom[2:]) in ((), at.kernel)

    def _segment(
        self, run: list[Operation], behind: int, last: Mapping[int, int], shapes: Sequence[Shape]
    ) -> _PlanStep:
        first = behind - len(run)
        needed = {slot for slot, end in last.items() if end >= behind}
        make = partial(make_segment, run, self._constants, shapes, needed, self._slots)
        segment = make(parts=torch.get_num_threads())
        frees = [slot for slot in segment.reads if first <= last[slot] < behind]
        forms = [torch.contiguous_format if slot in self._slots or len(shapes[slot]) != 4
                 else torch.channels_last for slot in segment.reads]  # fmt: skip
        return _SegmentPlanStep(
            segment, make, run, self._constants.values, self._scratch, frees, forms
        )

    def _torch_step(self, operation: Operation) -> Any:
        step = self._torch_steps.get(id(operation))
        if step is None:
            step = torch_step(operation, self._like, self._format)
            self._torch_steps[id(operation)] = step
        return step


def _key(shapes: Sequence[Shape]) -> tuple[Any, ...]:
    """Return what a plan is made for."""
    return (torch.get_num_threads(), *shapes)


class _TorchPlanStep:
    """One operation as a torch function."""

    def __init__(
        self,
        call: Any,
        operation: Operation,
        frees: Sequence[int],
        given: Sequence[int],
        memory_format: torch.memory_format,
    ) -> None:
        self._call, self._operation, self._frees = call, operation, frees
        self._given, self._format = given, memory_format

    def __call__(self, values: list[Any]) -> None:
        operation = self._operation
        for slot in self._given:  # images as they came
            values[slot] = values[slot].contiguous(memory_format=self._format)
        try:
            result = self._call(*[values[slot] for slot in operation.bottoms])
        except RuntimeError as error:
            if operation.layer is None:
                raise
            raise operation.layer.explained(error) from None
        if isinstance(result, Tensor):
            result = (result,)
        for slot, value in zip(operation.tops, result, strict=True):
            values[slot] = value
        for slot in self._frees:
            values[slot] = None

    def parts(self, values: list[Any]) -> Iterator[_Part]:
        """Yield what is run, by operations."""
        yield self._operation.names, lambda: self(values)


class _SegmentPlanStep:
    """Operations as one program."""

    def __init__(
        self,
        segment: Segment,
        make: Callable[[], Segment],
        operations: Sequence[Operation],
        constants: Tensor,
        scratch: list[Tensor],
        frees: Sequence[int],
        forms: Sequence[torch.memory_format],
    ) -> None:
        self._segment, self._operations, self._frees = segment, operations, frees
        self._make = make  # the same, each step over the whole batch
        self._constants, self._scratch = constants, scratch
        self._reads = list(zip(segment.reads, forms, strict=True))
        # The two orders are one of pictures of a pixel; the plain one is made faster.
        orders = [
            torch.channels_last
            if len(shape) == 4 and shape[2] * shape[3] > 1 and slot not in segment.planes
            else None
            for slot, shape in zip(segment.writes, segment.shapes, strict=True)
        ]
        self._writes = list(zip(segment.writes, segment.shapes, orders, strict=True))

    def __call__(self, values: list[Any]) -> None:
        segment = self._segment
        # Taken while it is used, because several threads may run one net.
        memory = self._scratch.pop() if self._scratch else torch.empty(0)
        if memory.numel() < segment.scratch:
            memory = torch.empty(segment.scratch)
        run_program(self._buffers(memory, values), self._constants, segment.program)
        self._scratch.append(memory)
        for slot in self._frees:
            values[slot] = None

    def parts(self, values: list[Any]) -> Iterator[_Part]:
        """Yield what is run, by operations."""
        segment = self._make()
        buffers = self._buffers(torch.empty(segment.scratch), values)
        # What brings images into order stands before the first operation.
        program = segment.program
        first = len(program) - len(self._operations) + 1
        steps = [program[:first], *(program[i : i + 1] for i in range(first, len(program)))]
        for operation, step in zip(self._operations, steps, strict=True):
            yield operation.names, partial(run_program, buffers, self._constants, step)
        for slot in self._frees:
            values[slot] = None

    def _buffers(self, memory: Tensor, values: list[Any]) -> list[Tensor]:
        """Return what a program reads and writes; the latter are in `values` then."""
        buffers = [memory]
        for slot, form in self._reads:
            buffers.append(values[slot].contiguous(memory_format=form))
        for slot, shape, order in self._writes:
            made = torch.empty(shape, memory_format=order) if order else torch.empty(shape)
            values[slot] = made
            buffers.append(made)
        return buffers


_PlanStep = _TorchPlanStep | _SegmentPlanStep
_Part = tuple[Sequence[str], Callable[[], None]]
