"""From a prototxt and a caffemodel to a torch module in one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sphereface.caffe.graph import NetGraph, build_graph
from sphereface.caffe.layer import Phase, Shape
from sphereface.caffe.net import Net
from sphereface.caffe.registry import layer_class, list_layers
from sphereface.caffe.user_layer import importing_allowed
from sphereface.checkpoints import checkpoint_prototxt
from sphereface.errors import SphereFaceError
from sphereface.proto.net_file import NetFile, net_of_message, net_of_text
from sphereface.weights import definition_text, is_weights, read_definition, weight_format

__all__ = ["build_net", "load", "load_file", "load_graph", "net_text", "own_weights"]


def load(
    prototxt: str | os.PathLike[str] | Any,
    caffemodel: str | os.PathLike[str] | None = None,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    generator: torch.Generator | None = None,
    allow_python: bool | Iterable[str] = (),
) -> Net:
    """Build a Caffe net as a torch module, with the weights of a caffemodel.

    Parameters
    ----------
    prototxt : path, str or NetParameter
        The net: a file, the name of a packaged one (``"sphereface_20_deploy"``), its text, or a
        message. Old formats are upgraded. A file of weights that holds its net (any caffemodel of
        Caffe, HDF5 or safetensors of this package) is enough alone: see
        `sphereface.weights.read_definition`. So is a backbone of OpenSphere.
    caffemodel : path, optional
        Trained weights, of any format that `Net.copy_from` reads, matched by layer name;
        `Net.load_report` says what became of each layer. Without it those of `prototxt`, if it is
        a file of weights, else the fillers fill.
    phase : {"TEST", "TRAIN"}
        Which layers are kept, and the mode (`eval` or `train`) that the net starts in.
    level, stages : int, iterable of str
        Further parts of the net state that include and exclude rules ask for.
    input_shapes : mapping of str to shape, optional
        Sizes of inputs to build for, where the file gives none or others. Inputs are the tops of
        Input and data layers.
    generator : torch.Generator, optional
        Source of the fillers' random numbers (``random_seed``).
    allow_python : bool or iterable of str
        Modules that Python layers of the file may import, True for any; modules that the program
        has imported are always allowed.

    Returns
    -------
    Net

    Raises
    ------
    SphereFaceError
        Anything that Caffe would refuse, with file, line and layer.

    Examples
    --------
    >>> net = load('''
    ...     layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3] } } }
    ...     layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
    ...             inner_product_param { num_output: 2 } }''')
    >>> net(torch.ones(1, 3))
    {'fc': tensor([[0., 0.]], grad_fn=<AddmmBackward0>)}
    """
    graph = load_graph(prototxt, phase, level, stages)
    return build_net(
        graph,
        phase,
        own_weights(prototxt) if caffemodel is None else caffemodel,
        input_shapes=input_shapes,
        generator=generator,
        allow_python=allow_python,
    )


def own_weights(prototxt: str | os.PathLike[str] | Any) -> str | os.PathLike[str] | None:
    """Return what was given as a net if it is a file of weights, which go into that net."""
    given: bool = isinstance(prototxt, (str, os.PathLike)) and is_weights(prototxt)
    return prototxt if given else None


def build_net(
    graph: NetGraph,
    phase: Phase,
    weights: str | os.PathLike[str] | None = None,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    fill: bool | None = None,
    generator: torch.Generator | None = None,
    allow_python: bool | Iterable[str] = (),
) -> Net:
    """Make the module of a graph, and copy `weights` into it; see `load`.

    The fillers run unless there are weights, or as `fill` says.
    """
    fill = weights is None if fill is None else fill
    with importing_allowed(allow_python):
        net = Net(graph, phase=phase, input_shapes=input_shapes, fill=fill, generator=generator)
    if weights is not None:
        report = net.copy_from(weights, generator=generator)
        if not report.loaded and any(net.learnable_blobs()):
            # Caffe goes on, which nobody can have wanted.
            warnings.warn(
                f"{os.fspath(weights)}: no layer of net {net.name!r} has weights there; all "
                f"start from their fillers; its layers are {', '.join(report.skipped) or 'none'}",
                stacklevel=3,
            )
    return net


def load_graph(
    prototxt: str | os.PathLike[str] | NetFile | Any,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
) -> NetGraph:
    """Read a net and connect its layers; `load` makes the module of it.

    Parameters and errors are those of `load`; what `load_file` returned is not read again.
    """
    if phase not in ("TRAIN", "TEST"):
        raise SphereFaceError(f"phase {phase!r}", expected='"TRAIN" or "TEST"')
    file = prototxt if isinstance(prototxt, NetFile) else load_file(prototxt)
    kept = file.kept(phase, level, stages)
    return build_graph(
        kept.net,
        layer_class,
        kept.where,
        source=kept.source,
        problems=kept.problems,
        why_missing=kept.why_missing,
    )


def load_file(prototxt: str | os.PathLike[str] | Any) -> NetFile:
    """Read a net with the layers of all phases: a file, its text, or a message.

    Of a file of weights that holds or tells its net, the deploy net; see `read_definition` and
    `checkpoint_prototxt`. What is wrong with single layers is raised by `load_graph`, together with
    what it finds.

    Raises
    ------
    SphereFaceError
        The text is no net, with its place; or the net cannot be upgraded.
    """
    types = frozenset(list_layers())  # which bring their parameter messages
    if hasattr(prototxt, "DESCRIPTOR"):
        return net_of_message(prototxt)
    if _is_checkpoint(prototxt):
        return net_of_text(checkpoint_prototxt(prototxt), os.fspath(prototxt), types)
    return read_definition(prototxt, types)


def net_text(prototxt: str | os.PathLike[str]) -> str:
    """Return the prototxt of what `load_file` reads: a text as it is, a definition written.

    Raises
    ------
    SphereFaceError
        As `load_file`.
    """
    return checkpoint_prototxt(prototxt) if _is_checkpoint(prototxt) else definition_text(prototxt)


def _is_checkpoint(prototxt: str | os.PathLike[str]) -> bool:
    return is_weights(prototxt) and weight_format(prototxt) == "torch"
