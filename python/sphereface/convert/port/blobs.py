"""The submodule that holds the blobs of a layer in a ported file, which gets this class' text."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Blobs"]


class Blobs(nn.Module):
    """The blobs of a layer: parameters, and as plain tensors what is not learned."""

    def __init__(self, **blobs: Tensor) -> None:
        super().__init__()
        for name, blob in blobs.items():
            if isinstance(blob, nn.Parameter):
                self.register_parameter(name, blob)
            else:
                self.register_buffer(name, blob)
