"""Layer type to class. Layers register themselves, from this package or from outside it.

Source: Caffe's layer_factory.hpp (`REGISTER_LAYER_CLASS`). What differs: the parameter message is
registered with the layer, so an outside layer needs no edit of a central caffe.proto; packages that
declare an entry point in group ``sphereface.layers`` are imported when a type is first not known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema

if TYPE_CHECKING:
    from sphereface.caffe.layer import Layer

__all__ = ["layer_class", "layer_types", "param_field", "register_layer"]

_LAYERS: dict[str, type[Layer]] = {}
_PARAM_FIELDS: dict[str, str] = {}

L = TypeVar("L", bound="type[Layer]")


def register_layer(type_name: str, *, param: str = "", message: Any = None) -> Callable[[L], L]:
    """Register the decorated `Layer` subclass as the layer type `type_name`.

    Parameters
    ----------
    type_name : str
        What a prototxt writes in ``type: "..."``.
    param : str
        Field of LayerParameter that holds the layer's options, such as ``"prelu_param"``; the
        layer sees it as ``self.options``. Empty for a layer without options.
    message : str or message class, optional
        Declares `param` for a layer whose options Caffe does not know: proto2 text or a class,
        as taken by `sphereface.proto.schema.extend_layer_parameter`.

    Raises
    ------
    SphereFaceError
        The type is registered already, or `param` is not a field of LayerParameter.

    Examples
    --------
    >>> @register_layer("Gain", param="gain_param",
    ...                 message="message GainParameter { optional float gain = 1 [default = 2]; }")
    ... class Gain(Layer):
    ...     def setup(self, bottom_shapes):
    ...         self.gain = self.options.gain
    ...     def forward(self, x):
    ...         return x * self.gain
    """

    def register(cls: L) -> L:
        if type_name in _LAYERS:
            known = _LAYERS[type_name]
            raise SphereFaceError(
                f'layer type "{type_name}" is already registered',
                where=f"{cls.__module__}.{cls.__qualname__}",
                expected=f"a name other than that of {known.__module__}.{known.__qualname__}",
            )
        if message is not None:
            schema.extend_layer_parameter(param, message)
        fields = schema.message("LayerParameter").DESCRIPTOR.fields_by_name
        if param and param not in fields:
            raise SphereFaceError(
                f'LayerParameter has no field "{param}"',
                where=f"{cls.__module__}.{cls.__qualname__}",
                fix=nearest(param, fields) or "pass message=... to declare it",
            )
        _LAYERS[type_name] = cls
        _PARAM_FIELDS[type_name] = param
        return cls

    return register


def layer_class(type_name: str, where: str = "") -> type[Layer]:
    """Return the class registered for `type_name`.

    Raises
    ------
    SphereFaceError
        No such type; the error gives `where` and the nearest known name.
    """
    _load_layers(type_name)
    if type_name not in _LAYERS:
        raise SphereFaceError(
            f'unknown layer type "{type_name}"',
            where=where,
            fix=nearest(type_name, _LAYERS)
            or "a layer of your own is added with sphereface.caffe.register_layer",
        )
    return _LAYERS[type_name]


def param_field(type_name: str) -> str:
    """Return the field of LayerParameter that holds the options of `type_name`, or ""."""
    return _PARAM_FIELDS[type_name]


def layer_types() -> list[str]:
    """Return all registered layer types, sorted."""
    _load_layers()
    return sorted(_LAYERS)


def _load_layers(wanted: str | None = None) -> None:
    import sphereface.caffe.layers  # noqa: F401 - layers import this module to register

    if wanted not in _LAYERS:
        _load_entry_points()


@cache
def _load_entry_points() -> None:
    for point in entry_points(group="sphereface.layers"):
        point.load()
