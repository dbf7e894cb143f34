"""A net in the form that runs forward fastest without changing its numbers.

What differs from calling the net: no gradients, layers folded into the convolutions before or after
them, weights and images in channels-last order (what oneDNN's and cuDNN's convolutions want),
kernels packed once, results as float32 on the CPU. benchmarks/inference.py measures the choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.memory_format import arrange_kernels
from sphereface.caffe.net import Net
from sphereface.errors import SphereFaceError
from sphereface.inference.cuda_graphs import Recorded, record
from sphereface.inference.fused import Folded, FusedNet
from sphereface.inference.packed_convolution import PackedConvolutions

__all__ = ["Predictor", "find_device"]

_IMAGE_AXES = 4


class Predictor:
    """Runs a net forward.

    Parameters
    ----------
    net : Net
        The net; it is moved and converted, not copied, and put in the TEST phase. Make a new
        predictor after its weights change.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    channels_last : bool
        Keep images and kernels in NHWC order in memory; shapes stay NCHW.
    pack : bool
        Keep a copy of the kernels in the layout that the CPU's convolutions compute with.
    bfloat16 : bool
        Compute in bfloat16: about half the time where the processor has it, and some 2 to 3
        correct digits.
    compile : bool
        Use torch.compile, for which the first batch of a size takes long; it packs and folds
        nothing.
    fuse : bool
        Run a folded copy of the net (`sphereface.inference.fused`). Results differ from the net's
        in the last digits of float32. Blobs that a call asks for are computed as in the net.
    cuda_graphs : bool
        On a CUDA device, record the pass of a batch's shapes and replay it (`cuda_graphs`).

    Attributes
    ----------
    net : Net
    device : torch.device

    Examples
    --------
    >>> from sphereface.caffe import load
    >>> net = load('''
    ...     input: "data" input_shape { dim: [1, 3] }
    ...     layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
    ...             inner_product_param { num_output: 2 } }''')
    >>> Predictor(net)({"data": torch.ones(5, 3)})["fc"].shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        net: Net,
        *,
        device: str = "cpu",
        channels_last: bool = True,
        pack: bool = True,
        bfloat16: bool = False,
        compile: bool = False,
        fuse: bool = True,
        cuda_graphs: bool = False,
    ) -> None:
        self.net = net
        self.device = find_device(device)
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        net.eval().to(self.device, self._dtype)
        arrange_kernels(net, self._format)
        self._fused = FusedNet(net, self._format) if fuse and not compile else None
        self._run: Callable[..., dict[str, Tensor]] = torch.compile(net) if compile else net
        if self._fused is not None:
            self._run = self._fused
        if cuda_graphs:
            if self.device.type != "cuda":
                raise SphereFaceError(f"CUDA graphs on {device}", expected="a CUDA device")
            self._run = Recorded(self._run, record)
        unpacked = compile or self._fused is not None
        self._packed = PackedConvolutions(net) if pack and not unpacked else None

    def __call__(self, inputs: Mapping[str, Any], blobs: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the net's outputs and `blobs`.

        Parameters
        ----------
        inputs : mapping of str to Tensor or ndarray
            Every input of the net by name.
        blobs : sequence of str
            Blobs wanted besides the outputs.

        Returns
        -------
        dict of str to Tensor
            float32, contiguous, on the CPU.
        """
        packed = self._packed.applied() if self._packed else nullcontext()
        with torch.inference_mode(), packed:
            outputs = self._run(self._placed(inputs), blobs=tuple(blobs))
            return {name: _result(value) for name, value in outputs.items()}

    def folded(self, blobs: Sequence[str] = ()) -> Folded | None:
        """Return the operations that a call for `blobs` runs, or None if nothing is folded."""
        return None if self._fused is None else self._fused.form(tuple(blobs)).folded

    def operations(
        self, inputs: Mapping[str, Any]
    ) -> Iterator[tuple[Sequence[str], Callable[[], None]]]:
        """Yield the operations of a pass in order: names of layers, and what runs them.

        Each must be run before the next is asked for.

        Raises
        ------
        SphereFaceError
            Nothing is folded.
        """
        if self._fused is None:
            raise SphereFaceError("a predictor that folds nothing", expected="one with fuse=True")
        with torch.inference_mode():
            yield from self._fused.operations(self._placed(inputs))

    def _placed(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return {name: self._place(torch.as_tensor(value)) for name, value in inputs.items()}

    def _place(self, value: Tensor) -> Tensor:
        if value.dim() == _IMAGE_AXES:
            if self._fused is not None:  # which arranges them itself
                return value.to(self.device, self._dtype)
            return value.to(self.device, self._dtype, memory_format=self._format)
        # Labels and the like keep their precision.
        return value.to(self.device)


def _result(value: Tensor) -> Tensor:
    if value.dtype != torch.float32 or not value.is_cpu:
        value = value.to("cpu", torch.float32)
    return value.contiguous()


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises
    ------
    SphereFaceError
        It is none, or torch sees no such one.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SphereFaceError(f'device "{name}"', expected="cpu, cuda or cuda:INDEX") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SphereFaceError(f'device "{name}"', expected="cpu", fix="torch sees no CUDA device")
    return device
