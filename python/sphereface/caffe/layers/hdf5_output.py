"""HDF5Output: writes its bottoms to an HDF5 file.

Source: Caffe's hdf5_output_layer.cpp. What differs: every forward writes the whole file anew, where
Caffe's second forward fails because the datasets exist; the file is not touched before the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer
from sphereface.errors import SphereFaceError
from sphereface.files import check_output
from sphereface.weights.hdf5 import open_writer, write_array

__all__ = ["HDF5Output", "check_file_names"]

_DATASETS = ("data", "label")


@register_layer("HDF5Output", param="hdf5_output_param")
class HDF5Output(Layer):
    """``file_name`` gets the datasets "data" and "label", the two bottoms with four axes each.

    Of a bottom with fewer axes the last are of size 1, as Caffe's num, channels, height and width.
    """

    bottoms = exactly(2)
    tops = exactly(0)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the name of the file."""
        self.file_name: str = self.options.file_name
        if not self.file_name:
            raise self.error("no file_name", expected="hdf5_output_param { file_name: ... }")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; there are no tops."""
        data, label = bottom_shapes
        if max(len(data), len(label)) > 4 or data[:1] != label[:1]:
            raise self.error(
                f"bottoms of shapes {data} and {label}",
                expected="at most 4 axes, and the same first dimension",
            )
        return []

    def forward(self, data: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Write the file."""
        if torch.compiler.is_exporting():
            raise self.error("a layer that writes a file has no export", fix="leave it out")
        write = self._write
        if torch.compiler.is_compiling():
            # No decorator: it would load the whole compiler with the layers.
            write = torch.compiler.disable(write)
        write(data, label)
        return ()

    def _write(self, *bottoms: Tensor) -> None:
        with open_writer(self.file_name) as file:
            for name, blob in zip(_DATASETS, bottoms, strict=True):
                values = blob.detach().to("cpu", torch.promote_types(blob.dtype, torch.float32))
                axes = (*blob.shape, 1, 1, 1, 1)[:4]
                write_array(file, name, values.reshape(axes).numpy(), self.where)


def check_file_names(
    layers: Iterable[Layer], *, anywhere: bool = False, overwrite: bool = False
) -> None:
    """Raise unless the files of all HDF5Output layers among `layers` may be written.

    For running a net that came from elsewhere: its file chooses the names.

    Parameters
    ----------
    layers : iterable of Layer
    anywhere : bool
        Whether a file may lie outside of the working folder (``--write-anywhere``).
    overwrite : bool
        Whether it may exist already.

    Raises
    ------
    SphereFaceError
        One may not.
    """
    for layer in layers:
        if not isinstance(layer, HDF5Output):
            continue
        # Links are followed: one below the folder may lead out of it.
        if not anywhere and not Path(layer.file_name).resolve().is_relative_to(Path.cwd()):
            raise layer.error(
                f"writes {layer.file_name}",
                expected="a file below the working folder",
                fix="if that is wanted, pass --write-anywhere",
            )
        try:
            check_output(layer.file_name, overwrite=overwrite)
        except SphereFaceError as error:
            raise error.at(layer.where) from None
