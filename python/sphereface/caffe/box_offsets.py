"""The mean and standard deviation of boxes' offsets, which a net gives in units of them."""

from __future__ import annotations

from sphereface.caffe.layer import Layer

__all__ = ["Units", "offset_units"]

Units = tuple[tuple[float, ...], tuple[float, ...]]


def offset_units(layer: Layer) -> Units:
    """Return the means and standard deviations of ``bbox_reg_param``, 0 and 1 without it.

    Raises
    ------
    SphereFaceError
        They are not four each, or a deviation is not above 0.
    """
    given = layer.layer_param.bbox_reg_param
    means, deviations = tuple(given.bbox_mean), tuple(given.bbox_std)
    if not means or not deviations:
        return (0.0,) * 4, (1.0,) * 4
    if not len(means) == len(deviations) == 4 or min(deviations) <= 0:
        raise layer.error(
            f"bbox_mean {list(means)}, bbox_std {list(deviations)}",
            expected="four each, for x, y, width and height, and deviations above 0",
        )
    return means, deviations
