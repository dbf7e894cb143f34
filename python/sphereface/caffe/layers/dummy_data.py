"""DummyData: tops made by fillers.

Source: Caffe's dummy_data_layer.cpp. A constant top is filled once, the others in every forward,
from torch's global random numbers. What differs: the numbers follow Caffe's distributions, not its
random stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.fillers import fill_
from sphereface.caffe.graph import at_least, exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.errors import SphereFaceError

__all__ = ["DummyData"]


@register_layer("DummyData", param="dummy_data_param")
class DummyData(Layer):
    """Tops of the ``shape`` values (or the older num, channels, height, width) in the file.

    Shapes and ``data_filler`` values: one for all tops, or one each; no filler gives zeros.
    """

    bottoms = exactly(0)
    tops = at_least(1)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read shapes and fillers, and fill every top once."""
        fillers = [_plain(filler) for filler in self.options.data_filler]
        self.fillers = self._for_each_top("data_filler", fillers or [_CONSTANT])
        shapes = self._shapes()
        for index, (shape, filler) in enumerate(zip(shapes, self.fillers, strict=True)):
            self.checked_shape(self.layer_param.top[index], shape)
            try:
                zeros = torch.zeros(shape)
            except RuntimeError:
                raise self.error(f"no memory for a blob of shape {shape}") from None
            try:
                values = fill_(zeros, filler)
            except SphereFaceError as error:
                raise error.at(self.where) from None
            # A buffer, so that it is on the net's device and in its dtype; Caffe saves none.
            self.register_buffer(f"values{index}", values, persistent=False)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the shapes in the file."""
        return [tuple(values.shape) for values in self._values()]

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        """Return the constants, and new values for the other tops."""
        tops = tuple(
            values if filler.type == "constant" else fill_(torch.empty_like(values), filler)
            for values, filler in zip(self._values(), self.fillers, strict=True)
        )
        return tops[0] if self.top_count == 1 else tops

    def _values(self) -> list[Tensor]:
        return [getattr(self, f"values{index}") for index in range(self.top_count)]

    def _shapes(self) -> list[Shape]:
        options = self.options
        old = {name: list(getattr(options, name)) for name in _OLD_NAMES}
        if not any(old.values()):
            shapes = [tuple(shape.dim) for shape in options.shape]
            return self._for_each_top("shape", shapes)
        if options.shape:
            raise self.error("both shape and num, channels, height, width", expected="shape")
        sizes = [self._for_each_top(name, values) for name, values in old.items()]
        return list(zip(*sizes, strict=True))

    def _for_each_top(self, name: str, values: list[Any]) -> list[Any]:
        if len(values) not in (1, self.top_count):
            raise self.error(
                f"{len(values)} {name} values for {self.top_count} tops",
                expected="one for all tops, or one for each",
            )
        return values * self.top_count if len(values) == 1 else values


_OLD_NAMES = ("num", "channels", "height", "width")
_CONSTANT = SimpleNamespace(type="constant", value=0.0, sparse=-1)


def _plain(filler: Any) -> SimpleNamespace:
    # What forward reads must be traceable and picklable, and a message is neither.
    names = [*filler.DESCRIPTOR.fields_by_name, "FAN_IN", "FAN_OUT", "AVERAGE"]
    return SimpleNamespace(**{name: getattr(filler, name) for name in names})
