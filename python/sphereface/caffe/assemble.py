"""Putting built layers into a net: submodule names, shared blobs, bottoms without a gradient.

Source: Caffe's Net::Init and AppendParam (net.cpp). Shared blobs are one Parameter, so that data
are shared and gradients add up by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.sharing import BlobSlot, SharedBlob, resolve_sharing

__all__ = ["detach_bottoms", "module_names", "share_blobs"]


def module_names(net: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Return a submodule name for each layer: its name, made acceptable to torch and unique."""
    names = [name.replace(".", "%2E") for name in names]
    taken: set[str] = set()
    keys = []
    for name in names:
        key = name
        while not key or hasattr(net, key) or key in taken or (key != name and key in names):
            key += "_"
        taken.add(key)
        keys.append(key)
    return tuple(keys)


def share_blobs(layers: Sequence[Layer]) -> list[SharedBlob]:
    """Make blobs of one name one tensor; return Caffe's learnable parameters in its order."""
    learnable = resolve_sharing(_blob_slots(layers))
    for shared in learnable:
        owner = layers[shared.owner.layer]
        owner_name = owner.blob_names[shared.owner.blob]
        _set_multipliers(owner, shared.owner.blob, shared)
        for slot in shared.sharers:
            layer = layers[slot.layer]
            name = layer.blob_names[slot.blob]
            tensor = getattr(owner, owner_name)
            if slot.shape == shared.owner.shape and isinstance(tensor, nn.Parameter):
                setattr(layer, name, tensor)
            else:
                delattr(layer, name)
                view = _View(owner, owner_name, name, slot.shape)
                view(layer)
                layer.register_forward_pre_hook(view)
            _set_multipliers(layer, slot.blob, shared)
    return learnable


def detach_bottoms(layer: Layer, detach: tuple[bool, ...]) -> None:
    """Cut the bottoms marked in `detach` from the gradient (``propagate_down: false``)."""
    if any(detach):
        layer.register_forward_pre_hook(_Detach(detach))


class _Detach:
    def __init__(self, detach: tuple[bool, ...]) -> None:
        self.detach = detach

    def __call__(self, layer: nn.Module, bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            bottom.detach() if cut else bottom
            for bottom, cut in zip(bottoms, self.detach, strict=True)
        )


class _View:
    """Forward pre-hook: the owner's blob in this layer's shape.

    For ``share_mode: PERMISSIVE``, and for buffers, which `Module.to` would copy apart.
    """

    def __init__(self, owner: Layer, owner_blob: str, blob: str, shape: Shape) -> None:
        self.owner, self.owner_blob, self.blob, self.shape = owner, owner_blob, blob, shape

    def __call__(self, layer: nn.Module, bottoms: Any = None) -> None:
        layer.__dict__[self.blob] = getattr(self.owner, self.owner_blob).view(self.shape)


def _blob_slots(layers: Sequence[Layer]) -> Iterator[BlobSlot]:
    for index, layer in enumerate(layers):
        for blob, tensor in enumerate(layer.blobs):
            slot = BlobSlot(index, blob, tuple(tensor.shape), layer.where)
            spec = layer.param_spec(blob)
            if spec is not None:
                given = {
                    name: getattr(spec, name)
                    for name in ("lr_mult", "decay_mult")
                    if spec.HasField(name)
                }
                permissive = spec.share_mode == spec.PERMISSIVE
                slot = replace(slot, name=spec.name, permissive=permissive, **given)
            yield slot


def _set_multipliers(layer: Layer, blob: int, shared: SharedBlob) -> None:
    layer.lr_mult[blob], layer.decay_mult[blob] = shared.lr_mult, shared.decay_mult
    tensor = layer.blobs[blob]
    if isinstance(tensor, nn.Parameter):
        tensor.requires_grad_(shared.lr_mult != 0)
