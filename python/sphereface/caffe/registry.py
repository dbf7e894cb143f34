"""Layer type to class. Layers register themselves, from this package or from outside it.

Source: Caffe's layer_factory.hpp (`REGISTER_LAYER_CLASS`). What differs: the parameter message is
registered with the layer, so an outside layer needs no edit of a central caffe.proto; packages that
declare an entry point in group ``sphereface.layers`` are imported when a type is first not known.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple, TypeVar

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema

__all__ = [
    "LAYERS",
    "LayerType",
    "UnknownLayerError",
    "layer_class",
    "list_layers",
    "param_field",
    "register_layer",
]


class LayerType(NamedTuple):
    """What is registered under a type: a `Layer` subclass and the field of its options."""

    cls: type[Any]
    param: str


LAYERS: dict[str, LayerType] = {}


class UnknownLayerError(SphereFaceError):
    """A layer type that nothing has registered.

    Parameters
    ----------
    type_name : str
        The type.
    where : str, optional
        The layer in its file.
    """

    def __init__(self, type_name: str, where: str = "") -> None:
        self._hint = nearest(type_name, LAYERS)
        super().__init__(
            f'unknown layer type "{type_name}"',
            where=where,
            fix=self._fix("sphereface.caffe.register_layer"),
        )

    def on_command_line(self) -> SphereFaceError:
        """Return the error as a command tells it."""
        return self.at("", fix=self._fix("--layers FILE.py"))

    def _fix(self, how: str) -> str:
        added = f"a layer of your own is added with {how} (docs/adding_layers.md)"
        return f"{self._hint}, or {added}" if self._hint else added


L = TypeVar("L", bound="type[Any]")


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
        if type_name in LAYERS:
            known = LAYERS[type_name].cls
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
        LAYERS[type_name] = LayerType(cls, param)
        return cls

    return register


def layer_class(type_name: str, where: str = "") -> Any:
    """Return the class registered for `type_name`.

    Raises
    ------
    SphereFaceError
        No such type; the error gives `where` and the nearest known name.
    """
    _load_layers(type_name)
    if type_name not in LAYERS:
        raise UnknownLayerError(type_name, where)
    return LAYERS[type_name].cls


def param_field(type_name: str) -> str:
    """Return the field of LayerParameter that holds the options of `type_name`, or ""."""
    return LAYERS[type_name].param if type_name in LAYERS else ""


def list_layers(pattern: str = "*") -> list[str]:
    """Return the layer types that match a shell pattern, sorted.

    Parameters
    ----------
    pattern : str
        Such as ``"*Loss"`` or ``"*InnerProduct"``.

    Examples
    --------
    >>> list_layers("*Pool*")
    ['Pooling']
    """
    _load_layers()
    return sorted(name for name in LAYERS if fnmatchcase(name, pattern))


def _load_layers(wanted: str | None = None) -> None:
    import sphereface.caffe.layers  # noqa: F401 - layers import this module to register

    if wanted not in LAYERS:
        _load_entry_points()


@cache
def _load_entry_points() -> None:
    for point in entry_points(group="sphereface.layers"):
        point.load()
