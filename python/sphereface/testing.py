"""Checks of a layer of one's own: its numbers, its gradients, its ONNX form and its source.

For the tests of whoever adds a layer (docs/adding_layers.md). Each check runs a small net that the
caller writes, in float64 where the numbers are compared to his.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck

from sphereface.caffe import Net, load
from sphereface.caffe.layer import Phase
from sphereface.convert import pytorch_source
from sphereface.convert.onnx import write_onnx
from sphereface.convert.state_dict import net_state
from sphereface.errors import SphereFaceError, nearest
from sphereface.extras import require

__all__ = ["check_layer"]

Arrays = Mapping[str, npt.ArrayLike]


def check_layer(
    layers: str,
    bottoms: Arrays,
    tops: Arrays,
    *,
    blobs: Arrays | None = None,
    phase: Phase = "TEST",
    gradients: bool | Collection[str] = True,
    onnx: bool = False,
    port: bool = False,
    rtol: float = 1e-6,
) -> Net:
    """Check a layer against numbers that were computed otherwise.

    Parameters
    ----------
    layers : str
        Prototxt text of the layer, or of several; inputs are added for `bottoms`.
    bottoms : mapping of str to array
        Values of the inputs, by blob name.
    tops : mapping of str to array
        What the layer must compute, by blob name.
    blobs : mapping of str to array, optional
        Values for parameter blobs of the last layer, ``weight=``, ``bias=``; others are filled as
        the text says.
    phase : {"TEST", "TRAIN"}
        Of the net.
    gradients : bool or collection of str
        Compare autograd's gradients with finite differences (`torch.autograd.gradcheck`): of all
        bottoms and parameters, or only of these bottoms (no labels) and all parameters.
    onnx : bool
        Also write the net as ONNX, and run it in onnxruntime.
    port : bool
        Also write the net as PyTorch source, and run that.
    rtol : float
        Greatest difference, relative to the largest number of the top. The exported forms compute
        in float32, and are allowed 1e-5 at least.

    Returns
    -------
    Net
        In float64, for further checks.

    Raises
    ------
    AssertionError
        Numbers, shapes or gradients differ.
    SphereFaceError
        The text is wrong, or the layer has no such form.

    Examples
    --------
    >>> check_layer(
    ...     'layer { name: "l" type: "Power" bottom: "x" top: "y" power_param { power: 2 } }',
    ...     {"x": [[1.0, 2.0, 3.0]]},
    ...     {"y": [[1.0, 4.0, 9.0]]},
    ...     onnx=True,
    ...     port=True,
    ... )  # doctest: +SKIP
    """
    inputs = {name: torch.tensor(np.asarray(value, np.float64)) for name, value in bottoms.items()}
    net = load(_inputs_text(inputs) + layers, phase=phase).double()
    _set_blobs(net, blobs or {})
    wanted = [name for name in tops if name not in net.outputs]
    expected = {name: np.asarray(value, np.float64) for name, value in tops.items()}
    with torch.no_grad():
        found = {name: top.numpy() for name, top in net(inputs, blobs=wanted).items()}
    for name, value in expected.items():
        promised = net.blob_shapes[name]
        assert found[name].shape == promised, f"{name}: {found[name].shape}, reshape: {promised}"
        _assert_close(found[name], value, rtol, f'top "{name}"')
    if gradients:
        _check_gradients(net, inputs, wanted, inputs if gradients is True else gradients)
    single = max(rtol, 1e-5)
    outputs = {name: expected[name] for name in net.outputs if name in expected}
    if onnx:
        for name, value in _run_onnx(net, inputs).items():
            if name in outputs:
                _assert_close(value, outputs[name], single, f'ONNX, top "{name}"')
    if port:
        for name, value in zip(net.outputs, _run_source(net, inputs), strict=True):
            if name in outputs:
                _assert_close(value, outputs[name], single, f'PyTorch source, top "{name}"')
    return net.double()


def _inputs_text(inputs: Mapping[str, torch.Tensor]) -> str:
    return "".join(
        f'layer {{ name: "input_{name}" type: "Input" top: "{name}" input_param {{ shape {{'
        f" {' '.join(f'dim: {size}' for size in value.shape)} }} }} }}\n"
        for name, value in inputs.items()
    )


def _set_blobs(net: Net, blobs: Arrays) -> None:
    layer = net.layers[-1]
    for name, value in blobs.items():
        if name not in layer.blob_names:
            raise layer.error(
                f'no blob "{name}"',
                expected=f"one of {', '.join(layer.blob_names) or 'none'}",
                fix=nearest(name, layer.blob_names),
            )
        with torch.no_grad():
            given = torch.as_tensor(np.asarray(value, np.float64))
            getattr(layer, name).copy_(given.reshape(getattr(layer, name).shape))


def _assert_close(found: np.ndarray, expected: np.ndarray, rtol: float, what: str) -> None:
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * scale, err_msg=what)


def _check_gradients(
    net: Net, inputs: Mapping[str, torch.Tensor], wanted: list[str], names: Collection[str]
) -> None:
    if unknown := set(names) - set(inputs):
        raise SphereFaceError(
            f'no bottom "{min(unknown)}"', where="gradients", expected=", ".join(inputs)
        )
    parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
    moved = [inputs[name].clone().requires_grad_() for name in names]
    moved += [value.detach().clone().requires_grad_() for value in parameters.values()]

    def run(*values: torch.Tensor) -> Any:
        given = {**inputs, **dict(zip(names, values, strict=False))}
        changed = dict(zip(parameters, values[len(names) :], strict=True))
        tops = torch.func.functional_call(net, changed, (given,), {"blobs": wanted})
        return tuple(top for top in tops.values() if top.requires_grad)

    try:
        gradcheck(run, moved)
    except GradcheckError as error:
        raise AssertionError(f"gradients of {', '.join([*names, *parameters])}: {error}") from None


def _run_onnx(net: Net, inputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    runtime = require("onnxruntime", "test")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_onnx(net.float(), path)
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feed = {name: value.float().numpy() for name, value in inputs.items()}
        outputs = [output.name for output in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, feed), strict=True))


def _run_source(net: Net, inputs: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    scope: dict[str, Any] = {"__name__": "ported"}
    # The text is this package's own writing, of a net that the caller built.
    exec(compile(pytorch_source(net.float(), "Ported"), "ported", "exec"), scope)
    ported = scope["Ported"]().eval()
    ported.load_state_dict(net_state(net))
    with torch.no_grad():
        tops = ported(*(inputs[name].float() for name in net.inputs))
    return [top.numpy() for top in (tops if isinstance(tops, tuple) else (tops,))]
