"""``caffe.NetSpec``, ``layers`` and ``params``: prototxts written in Python.

Source: python/caffe/net_spec.py. ``L.Convolution(n.data, kernel_size=3, num_output=8)`` is the top
of a layer; assigned to a NetSpec's attribute it gets that name. What differs: layer types of one's
own work as soon as they are registered, and a wrong option is named with its layer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from sphereface.caffe.registry import list_layers, param_field
from sphereface.errors import SphereFaceError, nearest
from sphereface.pycaffe.proto import caffe_pb2

__all__ = [
    "FieldTypeError",
    "Function",
    "Layers",
    "NetSpec",
    "Parameters",
    "Top",
    "UnknownOptionError",
    "assign_proto",
    "layers",
    "params",
    "to_proto",
]

Names = dict[Any, str]  # of Tops and Functions


class FieldTypeError(SphereFaceError, TypeError):
    """A bottom or an option of another type than the layer takes."""


class UnknownOptionError(SphereFaceError, AttributeError):
    """An option that the layer type does not have."""


class Top:
    """Top number `n` of a layer `fn`."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """Return a NetParameter of the layers that lead to this top."""
        return to_proto(self)

    def __repr__(self) -> str:
        return f"top {self.n} of {self.fn.type_name}"


class Function:
    """A layer: its type, the Tops it reads, and its options.

    Parameters
    ----------
    type_name : str
        Layer type.
    inputs : iterable of Top
        Bottoms.
    params : mapping
        Options of the type's own parameter, or fields of LayerParameter (``name``, ``include``,
        ``loss_weight``, ``param``, ``transform_param``). Besides, ``ntop`` is the number of tops
        (1) and ``in_place`` gives the top the bottom's name.
    """

    def __init__(self, type_name: str, inputs: Iterable[Any], params: Mapping[str, Any]) -> None:
        self.type_name = type_name
        self.inputs = tuple(inputs)
        for index, given in enumerate(self.inputs):
            if not isinstance(given, Top):
                # Caffe's own words, which programs look for.
                raise FieldTypeError(
                    f"{type_name} input {index} is not a Top (type is {type(given)})"
                )
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class _Writer:
    """Collects layers in the order in which their tops are needed, and names what has no name."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.numbers: Counter[str] = Counter()
        self.layers: OrderedDict[Function, Any] = OrderedDict()

    def add(self, fn: Function) -> None:
        if fn in self.layers:
            return
        bottoms = []
        for top in fn.inputs:
            self.add(top.fn)
            bottoms.append(self.layers[top.fn].top[top.n])
        layer = caffe_pb2.LayerParameter(type=fn.type_name, bottom=bottoms)
        if fn.in_place:
            layer.top.extend(bottoms)
        else:
            layer.top.extend(self.name(top, fn) for top in fn.tops)
        layer.name = self.name(fn.tops[0] if fn.ntop else fn, fn)
        for option, value in fn.params.items():
            _set_option(layer, option, value)
        self.layers[fn] = layer

    def name(self, key: Any, fn: Function) -> str:
        if key not in self.names:
            self.numbers[fn.type_name] += 1
            self.names[key] = f"{fn.type_name}{self.numbers[fn.type_name]}"
        return self.names[key]

    def net(self) -> Any:
        net = caffe_pb2.NetParameter()
        net.layer.extend(self.layers.values())
        return net


class NetSpec:
    """A net under construction: its attributes (or items) are named Tops.

    Examples
    --------
    >>> n = NetSpec()
    >>> n.data = layers.Input(shape=dict(dim=[1, 3, 8, 8]))
    >>> n.conv1 = layers.Convolution(n.data, kernel_size=3, num_output=4)
    >>> n.relu1 = layers.ReLU(n.conv1, in_place=True)
    >>> [layer.name for layer in n.to_proto().layer]
    ['data', 'conv1', 'relu1']
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        tops = self.__dict__.get("tops", {})
        if name not in tops:
            raise AttributeError(f'the NetSpec has no top "{name}"; {nearest(name, tops)}')
        return tops[name]

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    __setitem__ = __setattr__
    __delitem__ = __delattr__

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def keys(self) -> list[str]:
        """Return the names."""
        return list(self.tops)

    def vals(self) -> list[Any]:
        """Return the Tops."""
        return list(self.tops.values())

    def update(self, other: Mapping[str, Any]) -> None:
        """Take over the Tops of a mapping."""
        self.tops.update(other)

    def to_proto(self) -> Any:
        """Return the NetParameter; ``str()`` of it is the prototxt."""
        writer = _Writer({top: name for name, top in self.tops.items()})
        for top in self.tops.values():
            writer.add(top if isinstance(top, Function) else top.fn)
        return writer.net()


def to_proto(*tops: Top) -> Any:
    """Return a NetParameter of the layers that lead to `tops`, all named automatically."""
    writer = _Writer({})
    for top in tops:
        writer.add(top.fn)
    return writer.net()


class Layers:
    """``layers.<Type>(*bottoms, **options)`` is a Top, a tuple of `ntop`, or (none) a Function."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*inputs: Top, **options: Any) -> Any:
            fn = Function(name, inputs, options)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        layer.__name__ = name
        return layer


class Parameters:
    """``params.Pooling.MAX`` is the value of an enum in PoolingParameter."""

    def __getattr__(self, name: str) -> Any:
        return getattr(caffe_pb2, f"{name}Parameter")


layers = Layers()
params = Parameters()


def _set_option(layer: Any, option: str, value: Any) -> None:
    field = _options_field(layer.type)
    owner = layer
    if not option.endswith("param") and field:
        options = getattr(layer, field)
        if option in options.DESCRIPTOR.fields_by_name:
            owner = options
    if option not in owner.DESCRIPTOR.fields_by_name:
        known = [*layer.DESCRIPTOR.fields_by_name]
        known += getattr(layer, field).DESCRIPTOR.fields_by_name if field else []
        raise UnknownOptionError(
            f'unknown option "{option}"',
            where=f'layer "{layer.name}" ({layer.type})',
            fix=nearest(option, known),
        )
    try:
        assign_proto(owner, option, value)
    except SphereFaceError as error:
        raise error.at(f'layer "{layer.name}" ({layer.type}): {option}={value!r}') from None
    except (TypeError, ValueError, AttributeError) as error:
        kind = SphereFaceError if isinstance(error, ValueError) else FieldTypeError
        raise kind(
            f"{option}={value!r}: {error}", where=f'layer "{layer.name}" ({layer.type})'
        ) from None


def _options_field(type_name: str) -> str:
    """Return the field of LayerParameter for the options of a type."""
    if type_name in list_layers():
        return param_field(type_name)
    wanted = f"{type_name}Parameter"
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return next((f.name for f in fields if f.message_type and f.message_type.name == wanted), "")


def assign_proto(message: Any, name: str, value: Any) -> None:
    """Set a field of a message from a value, a dict (message) or a list of either (repeated)."""
    if name not in message.DESCRIPTOR.fields_by_name:
        kind = message.DESCRIPTOR
        raise UnknownOptionError(
            f'{kind.name} has no field "{name}"', fix=nearest(name, kind.fields_by_name)
        )
    field = getattr(message, name)
    if hasattr(field, "extend"):
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, Mapping):
                _fill(field.add(), item)
            else:
                field.append(item)
    elif isinstance(value, Mapping):
        field.SetInParent()
        _fill(field, value)
    elif hasattr(value, "DESCRIPTOR"):
        field.CopyFrom(value)
    else:
        setattr(message, name, value)


def _fill(message: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(message, name, value)
