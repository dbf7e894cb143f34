"""Layer type to class. Layers register themselves, from this package or from outside it.

Source: Caffe's layer_factory.hpp (`REGISTER_LAYER_CLASS`). What differs: the parameter message is
registered with the layer, so an outside layer needs no edit of a central caffe.proto; packages that
declare an entry point in group ``sphereface.layers`` are imported when a type is first not known; a
layer from outside may take the place of this package's of the same type, for nets that are loaded
from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple, TypeVar

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema

__all__ = [
    "LAYERS",
    "LEFT_OUT",
    "LayerTable",
    "LayerType",
    "UnknownLayerError",
    "is_shipped",
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
_SHIPPED: dict[str, LayerType] = {}
_PARAMS: dict[tuple[str, type[Any]], str] = {}  # nets keep the class that they were loaded with
_CATALOGUE = "sphereface.caffe.layers."
_PACKAGE = "sphereface."


_FLOW = "optical flow is nothing that this package is for"
_CRF = "it filters on a permutohedral lattice"
_YOLO = "forks define darknet's older losses and detections each in a way of its own"
_FORKS = "forks of this name compute different things"
_ONE = "a single fork defines it"
_SAMPLED = "torch has no operator that samples at learned offsets"
_POSE = "OpenPose computes it behind the net: end the net before it and do it in the program"
_MATLAB = "Matlab's files are a program's to read and write: net(x, blobs=[...]) gives any blob"
_DATA = 'it reads data of its own fork: give the net its batches by a "Python" or "Input" layer'
LEFT_OUT = {
    "CustomData": _DATA,
    "DetectNetTransformation": _DATA,
    "DataAugmentation": _FLOW,
    "Downsample": _FLOW,
    "FlowWarp": _FLOW,
    "Resample": _FLOW,
    "DenseCRF": _CRF,
    "MultiStageMeanfield": _CRF,
    "EvalDetection": _YOLO,
    "RegionLoss": _YOLO,
    "YoloV2Loss": _YOLO,
    "YoloSeg": _YOLO,
    "BboxAccuracy": _ONE,
    "CompactBilinear": _ONE,
    "DenseBlock": _ONE,
    "DetectionGroupAccuracy": _ONE,
    "DetectionGroupLoss": _ONE,
    "EltwiseScalarComparison": _ONE,
    "FrcnnOutput": _ONE,
    "Hotspot": _ONE,
    "MaskPooling": _ONE,
    "MaskResize": _ONE,
    "ROIWarping": _ONE,
    "RemapLabels": _ONE,
    "ScaleRoute": _ONE,
    "SubRegion": _ONE,
    "DeformableConvolution": _SAMPLED,
    "DeformablePSROIPooling": _SAMPLED,
    "ImResize": _POSE,
    "Nms": _POSE,
    "MatRead": _MATLAB,
    "MatWrite": _MATLAB,
    "AutoCrop": _FORKS,
    "DiceCoefLoss": _FORKS,
    "DiceLoss": _FORKS,
    "Maxout": _FORKS,
    "PSROIAlign": _FORKS,
    "ProposalTarget": _FORKS,
    "ROIAlign": _FORKS,
    "ROIAlignPooling": _FORKS,
    "Resize": _FORKS,
}
"""Types that public nets have and that are left out on purpose, and why."""


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
        why = LEFT_OUT.get(type_name, "")
        self._hint = "" if why else nearest(type_name, LAYERS)
        super().__init__(
            f'unknown layer type "{type_name}"{why and f", left out on purpose: {why}"}',
            where=where,
            fix=self._fix("sphereface.caffe.register_layer"),
        )

    def on_command_line(self) -> SphereFaceError:
        """Return the error as a command tells it."""
        return self.at("", fix=self._fix("--layers FILE.py"))

    def _fix(self, how: str) -> str:
        added = f"a layer of your own is added with {how} (docs/adding_layers.md)"
        return f"{self._hint} A{added[1:]}" if self._hint else added


L = TypeVar("L", bound="type[Any]")
V = TypeVar("V", bound=Callable[..., Any])


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

    Warns
    -----
    UserWarning
        The layer takes the place of this package's of that type. Nets that are loaded already keep
        theirs.

    Raises
    ------
    SphereFaceError
        Another layer from outside has the type, or `param` is not a field of LayerParameter.

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
        place = f"{cls.__module__}.{cls.__qualname__}"
        shipped = cls.__module__.startswith(_CATALOGUE)
        if not shipped:
            _load_catalogue()  # so that it does not matter which is first
        known = LAYERS.get(type_name)
        replaces = known is not None and not shipped and known is _SHIPPED.get(type_name)
        if known is not None and not replaces and _place(known.cls) != place:
            raise SphereFaceError(
                f'layer type "{type_name}" is already registered',
                where=place,
                expected=f"a name other than that of {_place(known.cls)}",
            )
        if message is not None:
            schema.extend_layer_parameter(param, message)
        fields = schema.message("LayerParameter").DESCRIPTOR.fields_by_name
        if param and param not in fields:
            raise SphereFaceError(
                f'LayerParameter has no field "{param}"',
                where=place,
                fix=nearest(param, fields) or "pass message=... to declare it",
            )
        if replaces:
            text = f'layer type "{type_name}" is {place} from now on, in place of this package\'s'
            warnings.warn(text, stacklevel=2)
        LAYERS[type_name] = LayerType(cls, param)
        _PARAMS[type_name, cls] = param
        if shipped:
            _SHIPPED[type_name] = LAYERS[type_name]
        return cls

    return register


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def is_shipped(type_name: str, cls: type[Any]) -> bool:
    """Tell whether `cls` is this package's own layer of a type."""
    return type_name in _SHIPPED and _SHIPPED[type_name].cls is cls


class LayerTable(dict[str, V]):
    """Layer type to what is known of it beside its class, such as the function that exports it.

    This package's entries are for this package's layers. One from outside is for a layer from
    outside; of a type that nobody replaced, it goes before this package's entry.
    """

    def __init__(self) -> None:
        super().__init__()
        self._outside: dict[str, V] = {}

    def add(self, type_name: str, function: V) -> None:
        """Enter the function of a type."""
        outside = not function.__module__.startswith(_PACKAGE)
        (self._outside if outside and type_name in _SHIPPED else self)[type_name] = function

    def find(self, layer: Any) -> V | None:
        """Return the function for a layer, or None."""
        name, outside = layer.type, self._outside.get(layer.type)
        if name not in _SHIPPED:
            return self.get(name)
        if not is_shipped(name, type(layer)):
            return outside
        unreplaced = is_shipped(name, LAYERS[name].cls)
        return outside if outside is not None and unreplaced else self.get(name)


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


def param_field(type_name: str, cls: type[Any] | None = None) -> str:
    """Return the field of LayerParameter that holds the options of `type_name`, or "".

    Of a `cls` the field that it was registered with, whatever has the type today.
    """
    for base in cls.__mro__ if cls else ():
        if (type_name, base) in _PARAMS:
            return _PARAMS[type_name, base]
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
    _load_catalogue()
    if wanted not in LAYERS:
        _load_entry_points()


def _load_catalogue() -> None:
    import sphereface.caffe.layers  # noqa: F401 - layers import this module to register


@cache
def _load_entry_points() -> None:
    for point in entry_points(group="sphereface.layers"):
        try:
            point.load()
        except Exception as error:  # whatever a package does, the nets of others are loaded
            text = f"entry point {point.name} = {point.value} registers no layers ({error})"
            warnings.warn(text, stacklevel=2)
