"""TransformationParameter: crop, mean, scale and mirror of one image.

Source: Caffe's data_transformer.cpp. What differs: the random numbers come from the caller, who
derives them from the sample, so that the order of calls does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.images import read_mean_file

__all__ = ["Transform"]

_SSD = "SSD's"
_SEGMENTS = "temporal segment networks'"
_AUGMENTATION = "caffe-augmentation's"
_INTEL, _NVIDIA, _TI = "Intel's", "NVIDIA's", "Texas Instruments'"
# Of forks, and not done here: a picture that they would change is not what a net shall learn from.
_OF_FORKS = {
    **dict.fromkeys(
        (
            "crop_h",
            "crop_w",
            "distort_param",
            "emit_constraint",
            "expand_param",
            "noise_param",
            "resize_param",
        ),
        _SSD,
    ),
    **dict.fromkeys(
        ("fix_crop", "is_flow", "max_distort", "more_fix_crop", "multi_scale", "scale_ratios"),
        _SEGMENTS,
    ),
    **dict.fromkeys(
        (
            "apply_probability",
            "contrast_adjustment",
            "contrast_brightness_adjustment",
            "debug_params",
            "jpeg_compression",
            "max_alpha",
            "max_brightness_shift",
            "max_color_shift",
            "max_contrast",
            "max_rotation_angle",
            "max_scaling_factor",
            "max_smooth",
            "min_alpha",
            "min_contrast",
            "min_scaling_factor",
            "min_side",
            "min_side_max",
            "min_side_min",
            "rotation_angle",
            "smooth_filtering",
        ),
        _AUGMENTATION,
    ),
    **dict.fromkeys(("random_aspect_ratio_param", "random_resize_param"), _INTEL),
    **dict.fromkeys(
        (
            "allow_upscale",
            "horizontal_stretch_lower",
            "horizontal_stretch_upper",
            "img_rand_resize_lower",
            "img_rand_resize_upper",
            "rand_resize_ratio_lower",
            "rand_resize_ratio_upper",
            "vertical_stretch_lower",
            "vertical_stretch_upper",
        ),
        _NVIDIA,
    ),
    "num_labels": _TI,
}


class Transform:
    """Crops, subtracts the mean, scales and mirrors, in this order.

    Parameters
    ----------
    param : TransformationParameter
        ``force_color`` and ``force_gray`` are the decoder's.
    phase : {"TRAIN", "TEST"}
        The crop is random in TRAIN and centred in TEST; ``mirror`` is a coin in both, as in Caffe.
    where : str
        Place for errors.

    Attributes
    ----------
    color : bool or None
        What ``force_color`` and ``force_gray`` ask for.

    Raises
    ------
    SphereFaceError
        Options that exclude each other, or a mean file that cannot be read.
    """

    #: Random numbers that an image needs: for mirror, crop row, crop column.
    draws = 3

    def __init__(
        self, param: Any, phase: Literal["TRAIN", "TEST"] = "TEST", where: str = ""
    ) -> None:
        self._where = where
        self._train = phase == "TRAIN"
        self._crop = int(param.crop_size)
        self._mirror = bool(param.mirror)
        self._scale = np.float32(param.scale)
        for field, whose in _OF_FORKS.items():
            repeated = field in ("scale_ratios", "resize_param")
            if getattr(param, field) if repeated else param.HasField(field):
                raise self._error(f"{field}, which is {whose}", "Caffe's options")
        if param.force_color and param.force_gray:
            raise self._error("force_color and force_gray", "one of them")
        self.color = True if param.force_color else False if param.force_gray else None
        if param.mean_file and param.mean_value:
            raise self._error("mean_file and mean_value", "one of them")
        self._mean_values = np.asarray(param.mean_value, np.float32).reshape(-1, 1, 1)
        self._mean_file = param.mean_file
        mean = _read_mean(param.mean_file, where) if param.mean_file else None
        self._mean_image = mean if mean is not None and mean.ndim == 3 else None
        if mean is not None and mean.ndim == 1:
            self._mean_values = mean.reshape(-1, 1, 1)

    def output_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of a transformed image.

        Raises
        ------
        SphereFaceError
            The image does not fit the crop or the mean.
        """
        if self._mean_image is not None and self._mean_image.shape != (channels, height, width):
            raise SphereFaceError(
                f"a mean of {_size(self._mean_image.shape)}",
                where=f"{self._where}: {self._mean_file}",
                expected=f"{_size((channels, height, width))}, as the images before cropping",
            )
        if len(self._mean_values) not in (0, 1, channels):
            raise self._error(
                f"{len(self._mean_values)} mean_value", f"1, or {channels} as the image's channels"
            )
        if not self._crop:
            return channels, height, width
        if self._crop > min(height, width):
            raise self._error(
                f"crop_size {self._crop} of an image of {height} x {width}",
                "a crop no larger than the image",
            )
        return channels, self._crop, self._crop

    def __call__(self, image: NDArray[Any], bits: Sequence[int], out: NDArray[np.float32]) -> None:
        """Write the transformed `image` into `out`.

        Parameters
        ----------
        image : ndarray of shape (H, W, C)
            uint8 or float32, BGR.
        bits : sequence of int
            `draws` random integers of 64 bits.
        out : ndarray of shape (C, h, w)
            Where to write.
        """
        height, width, channels = image.shape
        shape = self.output_shape(channels, height, width)
        if out.shape != shape:
            raise SphereFaceError(
                f"an image that becomes {_size(shape)}",
                expected=f"{_size(out.shape)}, as the other images of the batch",
                fix="make the images of one size, or set new_height and new_width or crop_size",
            )
        rows, columns = (
            self._window(height, shape[1], bits[1]),
            self._window(width, shape[2], bits[2]),
        )
        if self._mirror and bits[0] & 1:
            # The mean belongs to the unmirrored image: written through a mirrored view.
            out = out[:, :, ::-1]
        np.copyto(out, image[rows, columns].transpose(2, 0, 1), casting="unsafe")
        if self._mean_image is not None:
            np.subtract(out, self._mean_image[:, rows, columns], out=out)
        elif len(self._mean_values):
            np.subtract(out, self._mean_values, out=out)
        if self._scale != 1:
            np.multiply(out, self._scale, out=out)

    def _window(self, size: int, wanted: int, bits: int) -> slice:
        room = size - wanted
        begin = bits % (room + 1) if self._train else room // 2
        return slice(begin, begin + wanted)

    def _error(self, problem: str, expected: str) -> SphereFaceError:
        return SphereFaceError(problem, where=f"{self._where}: transform_param", expected=expected)


def _read_mean(path: str, where: str) -> NDArray[np.float32]:
    try:
        return read_mean_file(path)
    except SphereFaceError as error:
        raise error.at(f"{where}: mean_file") from None


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{channels} channel{'s' if channels != 1 else ''} of {height} x {width}"
