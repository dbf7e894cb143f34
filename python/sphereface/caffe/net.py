"""A NetGraph as a torch module: layers as submodules, run as a flat list of steps.

Source: Caffe's net.cpp. What differs: blobs are values that are freed after their last reader, not
buffers of the net; the caller's tensors set the sizes of a pass, with Caffe's checks; gradients are
autograd's, which sums where Caffe inserts Split layers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sphereface.caffe.assemble import detach_bottoms, module_names, share_blobs
from sphereface.caffe.fused_loss import find_heads
from sphereface.caffe.graph import NetGraph
from sphereface.caffe.layer import Layer, Phase, Shape, UnknownShapeError
from sphereface.caffe.program import Program, make_program
from sphereface.caffe.weight_files import copy_weights, save_weights
from sphereface.errors import SphereFaceError, nearest, raise_problems
from sphereface.weights import LoadReport, StreamedArray

__all__ = ["LearnableBlob", "Net"]

_SHAPES_REMEMBERED = 256


class LearnableBlob(NamedTuple):
    """One entry of Caffe's learnable parameters: shared blobs appear once, at their owner."""

    key: str  # in state_dict
    layer: Layer
    tensor: Tensor
    lr_mult: float
    decay_mult: float


class Net(nn.Module):
    """A Caffe net; made by `sphereface.caffe.load`.

    Parameters
    ----------
    graph : NetGraph
        The connected layers.
    phase : {"TRAIN", "TEST"}
        The phase that the layers start in; `train` and `eval` change it as in any module.
    input_shapes : mapping, optional
        Shapes of inputs, by name, instead of those in the file.
    fill : bool
        Run the fillers. Without it blobs are zero until `copy_from` fills or replaces them.
    generator : torch.Generator, optional
        Source of the fillers' random numbers.

    Attributes
    ----------
    layers : tuple of Layer
        In file order; `layer` finds one by name.
    inputs : tuple of str
        Names of the blobs to give to `forward`.
    outputs : tuple of str
        Names of the blobs that no layer consumes, sorted as Caffe sorts them.
    loss_weights : dict
        Name of each top that has a loss weight, to the weight.
    blob_shapes : dict
        Shape of each blob at the built input sizes.
    load_report : LoadReport
        What the last `copy_from` did.
    fuse_losses : bool
        Run heads as one with their losses, as `sphereface.caffe.fused_loss` says. True at first.

    Notes
    -----
    A layer's submodule, and so its prefix in `state_dict`, is named as the layer:
    ``conv1_1.weight``. ``.`` in a name is written ``%2E``; a name that this class or nn.Module has
    already (``loss``, ``type``), or an earlier layer, gets a trailing ``_``; `keys` is the map.
    """

    def __init__(
        self,
        graph: NetGraph,
        *,
        phase: Phase = "TEST",
        input_shapes: Mapping[str, Shape] | None = None,
        fill: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.phase = phase
        self.name = graph.name
        self.force_backward = graph.force_backward
        self.inputs = tuple(graph.inputs)
        self.outputs = tuple(graph.outputs)
        given = self._overrides(input_shapes or {})
        self._order: tuple[Layer, ...] = tuple(
            node.layer_class(node.param, phase=phase, where=node.where) for node in graph.nodes
        )
        self._built_shapes = self._infer(given, lambda layer, bottoms: layer.build(bottoms))
        if fill:
            for layer in self._order:
                layer.fill(generator)
        self._learnable = share_blobs(self._order)
        self._copies_inputs = any(layer.writes_bottoms for layer in self._order)
        self._loss_slots = self._weighted_tops()
        self.loss_weights = {name: weight for name, _, weight in self._loss_slots}
        self.fuse_losses = True
        self._heads = find_heads(graph, self._order, self._built_shapes)
        self._programs: dict[tuple[str, ...], Program] = {}
        self._default = self.program(())
        self._known_shapes = {tuple(self._built_shapes[s] for s in graph.inputs.values())}
        self.load_report = LoadReport()
        self.keys: tuple[str, ...] = ()
        self._add_layers()
        self.train(phase == "TRAIN")

    # ---- running

    def forward(
        self, *inputs: Tensor | Mapping[str, Tensor], blobs: Sequence[str] = (), **named: Tensor
    ) -> dict[str, Tensor]:
        """Run the net.

        Parameters
        ----------
        *inputs : Tensor
            The inputs in the order of `inputs`; or one dict by name, for names that Python
            does not allow as keywords (``lambda``).
        blobs : sequence of str
            Blobs wanted besides the outputs; of a name written in place, the last version.
        **named : Tensor
            Inputs by name.

        Returns
        -------
        dict of str to Tensor
            The output blobs in Caffe's order, then tops with a loss weight that another layer
            consumes (an unnamed top under its layer's name), then `blobs`.

        Raises
        ------
        SphereFaceError
            Inputs are missing, unknown or of sizes that a layer cannot take.
        """
        values = self.input_values(*inputs, **named)
        program = self.program(tuple(blobs)) if blobs else self._default
        return program.run(self._modules.values(), values, fuse=self.fuse_losses)

    def loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of ``loss_weight * top`` over the tops that have one.

        Parameters
        ----------
        outputs : mapping
            What `forward` returned.

        Raises
        ------
        SphereFaceError
            No top of the net has a loss weight.
        """
        if not self.loss_weights:
            raise SphereFaceError(
                f'net "{self.name}" in phase {self.phase} has no loss',
                expected="a loss layer, or a loss_weight on some top",
            )
        terms = [weight * outputs[name].sum() for name, weight in self.loss_weights.items()]
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    # ---- looking inside

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in file order."""
        return self._order

    def layer(self, name: str) -> Layer:
        """Return the (first) layer of that name."""
        for layer in self._order:
            if layer.name == name:
                return layer
        raise SphereFaceError(
            f'net "{self.name}" has no layer "{name}"',
            fix=nearest(name, [layer.name for layer in self._order]),
        )

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """Shape of each blob at the built input sizes (of an in-place name, the last version)."""
        return {name: self._built_shapes[slot] for name, slot in self.graph.blobs.items()}

    def infer_shapes(self, input_shapes: Mapping[str, Shape]) -> list[Shape]:
        """Return the shape of every slot of `graph` for other input sizes, running nothing.

        Inputs that are not given keep the shape that the net was built for.

        Raises
        ------
        SphereFaceError
            A layer cannot take its bottoms; the error names it.
        """
        given = self._overrides(input_shapes)
        for node in self.graph.nodes:
            # The other tops of a layer follow the one that is given (labels, the batch of images).
            if node.layer_class.is_input and given.keys().isdisjoint(node.param.top):
                given.update(
                    (name, self._built_shapes[slot])
                    for name, slot in zip(node.param.top, node.tops, strict=True)
                )
        return self._infer(given, lambda layer, bottoms: layer.reshape(bottoms))

    def learnable_blobs(self) -> Iterator[LearnableBlob]:
        """Yield Caffe's learnable parameters in Caffe's order, buffers such as BatchNorm's too."""
        for shared in self._learnable:
            layer = self._order[shared.owner.layer]
            name = layer.blob_names[shared.owner.blob]
            key = f"{self.keys[shared.owner.layer]}.{name}"
            yield LearnableBlob(key, layer, getattr(layer, name), shared.lr_mult, shared.decay_mult)

    # ---- weights

    def copy_from(
        self,
        source: str | os.PathLike[str] | Mapping[str, Sequence[Any]],
        *,
        strict: bool = False,
        partial: bool = False,
        ignore: Iterable[str] = (),
        rename: Mapping[str, str] | None = None,
        generator: torch.Generator | None = None,
    ) -> LoadReport:
        """Copy trained weights into the layers of the same names.

        Parameters
        ----------
        source : path or mapping
            A file, whose content tells its format: a caffemodel, binary or HDF5, a state dict
            (``.pt``; clcarwin's and OpenSphere's too), safetensors; or {layer name: [arrays]}.
        strict, partial, ignore, rename
            As in `sphereface.weights.match_weights`: strict, every layer must find its partner;
            partial, layers that do not fit stay as they are; ignore, source layers (or patterns)
            to leave out; rename, source name to name here.
        generator : torch.Generator, optional
            For fillers of layers that the source lacks, in a net made with ``fill=False``.

        Returns
        -------
        LoadReport
            What was loaded, skipped and left; also kept as `load_report`.

        Raises
        ------
        SphereFaceError
            The file is damaged, or number or shapes of blobs differ; nothing was changed then.
        """
        self.load_report = copy_weights(
            dict(zip(self.keys, self._order, strict=True)),
            source,
            [(slot.layer, slot.blob) for shared in self._learnable for slot in shared.sharers],
            {"strict": strict, "partial": partial, "ignore": ignore, "rename": rename},
            generator,
        )
        return self.load_report

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        diffs: bool = False,
        gathered: Callable[[Tensor], StreamedArray] | None = None,
    ) -> None:
        """Write the net and its weights as a caffemodel that the original Caffe loads.

        Binary, or HDF5 for a name that ends in ``.h5``. With `diffs` gradients are written too, as
        Caffe does with ``snapshot_diff``; zeros for blobs that have none. `gathered` returns the
        whole of a blob that is split over processes.
        """
        shared = {(slot.layer, slot.blob) for blob in self._learnable for slot in blob.sharers}
        save_weights(path, self.name, self._order, shared, diffs, gathered)

    def __repr__(self) -> str:
        """Show the net's name and phase, and its layers in order with the shapes of their tops."""
        lines = [f"{type(self).__name__}({self.name!r}, {self.phase}"]
        shapes = self.infer_shapes({})
        for node, layer in zip(self.graph.nodes, self._order, strict=True):
            tops = (
                f"{self.graph.blob_names[slot]} {'×'.join(map(str, shapes[slot])) or 'scalar'}"
                for slot in node.tops
            )
            lines.append(f"  ({layer.name}): {layer!r} -> {', '.join(tops)}".rstrip())
        return "\n".join([*lines, ")"])

    # ---- building

    def _infer(self, given: Mapping[str, Shape], shapes_of: Any) -> list[Shape]:
        shapes: list[Any] = [None] * len(self.graph.blob_names)
        problems = []
        for node, layer in zip(self.graph.nodes, self._order, strict=True):
            bottoms = [shapes[slot] for slot in node.bottoms]
            if None in bottoms:  # it reads a layer that has a problem
                continue
            try:
                tops = shapes_of(layer, bottoms)
                if layer.is_input:
                    tops = layer.input_shapes(given)
                for slot, shape in zip(node.tops, tops, strict=True):
                    shapes[slot] = layer.checked_shape(self.graph.blob_names[slot], shape)
            except UnknownShapeError:
                raise
            except SphereFaceError as error:
                problems.append(error)
        raise_problems(problems, f'net "{self.name}"')
        return shapes

    def _overrides(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
        for name in shapes:
            if name not in self.graph.inputs:
                raise SphereFaceError(
                    f'net "{self.name}" has no input "{name}"',
                    where="input_shapes",
                    expected=_listed(self.inputs),
                    fix=nearest(name, self.inputs),
                )
        return {name: tuple(int(size) for size in shape) for name, shape in shapes.items()}

    def _add_layers(self) -> None:
        self.keys = module_names(self, [layer.name for layer in self._order])
        # The layers that run come first and in order: forward pairs them with its steps.
        for inputs in (False, True):
            for key, layer in zip(self.keys, self._order, strict=True):
                if layer.is_input is inputs:
                    self.add_module(key, layer)
        for node, layer in zip(self.graph.nodes, self._order, strict=True):
            detach_bottoms(layer, node.detach)

    def _weighted_tops(self) -> list[tuple[str, int, float]]:
        weighted = []
        for node, layer in zip(self.graph.nodes, self._order, strict=True):
            for slot, weight in zip(node.tops, layer.loss_weight, strict=True):
                if weight:
                    weighted.append((self.graph.blob_names[slot] or node.name, slot, weight))
        return weighted

    def program(self, blobs: tuple[str, ...] = ()) -> Program:
        """Return the steps that `forward` runs for `blobs`, and where the results are."""
        if blobs not in self._programs:
            losses = ((name, slot) for name, slot, _ in self._loss_slots)
            self._programs[blobs] = make_program(self.graph, losses, blobs, self._heads)
        return self._programs[blobs]

    # ---- inputs of a pass

    def input_values(self, *inputs: Any, **named: Tensor) -> list[Any]:
        """Return what `forward` starts with: inputs in their slots, checked, None in all others."""
        values: list[Any] = [None] * len(self.graph.blob_names)
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named, inputs = {**inputs[0], **named}, ()
        if len(inputs) > len(self.inputs):
            problem = f'{len(inputs)} inputs for net "{self.name}"'
            raise SphereFaceError(problem, expected=_listed(self.inputs))
        slots = self.graph.inputs
        for name, tensor in zip(slots, inputs, strict=False):
            values[slots[name]] = tensor
        for name, tensor in named.items():
            if name not in slots or values[slots[name]] is not None:
                raise SphereFaceError(
                    f'net "{self.name}" has no free input "{name}"',
                    expected=_listed(self.inputs),
                    fix=nearest(name, slots),
                )
            values[slots[name]] = tensor
        for name, slot in slots.items():
            if not isinstance(values[slot], Tensor):
                raise SphereFaceError(
                    f'input "{name}" of net "{self.name}" is {_kind(values[slot])}',
                    expected="a torch.Tensor for each of " + _listed(self.inputs),
                )
            if self._copies_inputs:
                values[slot] = values[slot].clone()
        # Symbolic sizes of torch.export and torch.compile would be specialised by looking at them.
        if not torch.compiler.is_compiling():
            shapes = tuple([tuple(values[slot].shape) for slot in slots.values()])
            if shapes not in self._known_shapes:
                self.infer_shapes(dict(zip(slots, shapes, strict=True)))
                if len(self._known_shapes) >= _SHAPES_REMEMBERED:
                    self._known_shapes.clear()
                self._known_shapes.add(shapes)
        return values


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "no inputs"


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__module__}.{type(value).__name__}"
