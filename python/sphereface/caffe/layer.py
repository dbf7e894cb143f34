"""The base class of every layer: Caffe's SetUp, Reshape and Forward as a torch module.

Source: Caffe's layer.hpp. What differs: `reshape` computes shapes without touching tensors, so a
whole net is checked before anything runs; there is no Backward, because autograd differentiates
`forward` (a layer whose gradient Caffe defines otherwise uses a torch.autograd.Function).
docs/adding_layers.md shows how to write one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from sphereface.caffe.fillers import fill_
from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.registry import param_field
from sphereface.class_range import ClassRange
from sphereface.errors import SphereFaceError
from sphereface.proto import schema

__all__ = ["Layer", "Phase", "Shape", "UnknownShapeError"]

Shape: TypeAlias = tuple[int, ...]
Phase: TypeAlias = Literal["TRAIN", "TEST"]

_MOST_VALUES = 2**31 - 1  # Caffe counts a blob's in an int
# What torch and oneDNN say on a CPU; a GPU's exception has a type of its own.
_NO_MEMORY = ("DefaultCPUAllocator", "could not construct a memory descriptor")
# Sizes that torch's kernels do not take: of zero, or of more than an int holds.
_NO_SIZE = ("Only zero batch or zero channel inputs", "cannot be converted to type int")


class UnknownShapeError(SphereFaceError):
    """Nothing tells the shape of an input.

    Parameters
    ----------
    blob : str
        The input.
    problem, where, expected : str
        As in any error.
    remedy : str
        What would tell the shape; giving it by hand is always offered.
    """

    def __init__(
        self, blob: str, problem: str, *, where: str, expected: str = "", remedy: str = ""
    ) -> None:
        self.blob, self._remedy = blob, f"{remedy}, or " if remedy else ""
        fix = f'{self._remedy}pass it: input_shapes={{"{blob}": (N, C, H, W)}}'
        super().__init__(problem, where=where, expected=expected, fix=fix)

    def on_command_line(self) -> SphereFaceError:
        """Return the error as a command tells it."""
        return self.at("", fix=f"{self._remedy}pass it: --input-shape {self.blob}=N,C,H,W")


class Layer(nn.Module):
    """One layer of a net; subclasses define `setup`, `reshape` and `function` (or `forward`).

    `function` is what the layer computes, a torch function that stands alone: it takes the bottoms
    by position and attributes of the layer, blobs and options, by keyword, and returns the top, or
    a tuple of all tops (``()`` for none). `forward` takes the bottoms and calls it.

    Parameters
    ----------
    param : LayerParameter
        The layer's message.
    phase : {"TRAIN", "TEST"}
        The net's phase; a ``phase`` in `param` wins and is then kept by `train` and `eval`.
    where : str
        Place for errors: file, line, name and type.

    Attributes
    ----------
    name, type, options
        From `param`; `options` is the message of this type, such as ``convolution_param``.
    top_count : int
        Number of tops that the file asks for.
    blob_names : list of str
        Attribute names of the parameter blobs, in Caffe's order.
    lr_mult, decay_mult : list of float
        One for each parameter blob. A blob with lr_mult 0 does not require a gradient.
    loss_weight : list of float
        One for each top; `Net.loss` sums ``loss_weight * top``.
    """

    bottoms: ClassVar[Arity] = exactly(1)
    tops: ClassVar[Arity] = exactly(1)
    #: As many tops as bottoms.
    equal_counts: ClassVar[bool] = False
    #: Tops that the file leaves out are added without a name (losses).
    auto_tops: ClassVar[bool] = False
    #: Weight in the net's loss of the first top, where the file gives none.
    default_loss_weight: ClassVar[float] = 0.0
    #: The caller provides the tops; `forward` is not run.
    is_input: ClassVar[bool] = False
    #: `forward` may write into the memory of its bottoms, for later readers to see.
    writes_bottoms: ClassVar[bool] = False
    #: It adds to its blobs' gradient what a factor of the net's loss does not reach.
    unscaled_gradient: ClassVar[bool] = False

    # The usual blobs; a layer that has others annotates them.
    weight: Tensor
    bias: Tensor | None

    #: Which rows of its blobs this process has, where they are split over several; None is all.
    part: ClassRange | None = None

    #: What the layer computes; its keyword-only parameters are attributes of the layer.
    function: Callable[..., Any] | None = None
    #: Those parameters.
    function_keywords: tuple[str, ...] = ()

    # nn.Module.type (a dtype cast) gives way to Caffe's word; Module.to does the same.
    type: str  # type: ignore[assignment]

    def __init__(self, param: Any, *, phase: Phase = "TEST", where: str = "") -> None:
        super().__init__()
        self.layer_param = param
        self.name: str = param.name
        self.type = param.type
        field = param_field(param.type, type(self))
        self.options: Any = getattr(param, field) if field else None
        self.where = where or f'layer "{param.name}" ({param.type})'
        self.top_count = max(len(param.top), self.tops.least)
        self.blob_names: list[str] = []
        self.lr_mult: list[float] = []
        self.decay_mult: list[float] = []
        self.loss_weight: list[float] = []
        self._fillers: dict[str, Any] = {}
        self._constants: dict[str, float] = {}
        self._own_phase: bool | None = None
        if param.HasField("phase"):
            self._own_phase = param.phase == schema.TRAIN
        self.train(phase == "TRAIN")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.function_keywords = _keywords(cls.function)

    def compute_by(self, function: Callable[..., Any] | None) -> None:
        """Take `function` instead of the class's, for another form of the same type."""
        self.function, self.function_keywords = function, _keywords(function)

    def compute(self, *bottoms: Tensor) -> Any:
        """Return `function` of the bottoms and of the attributes that it takes."""
        assert self.function is not None  # or the class defines forward
        # Module's own look-up of a parameter takes longer than a small layer computes.
        values: dict[str, Any] = self.__dict__
        parameters = self._parameters
        given = {
            k: values[k] if k in values else parameters[k] if k in parameters else getattr(self, k)
            for k in self.function_keywords
        }
        return self.function(*bottoms, **given)

    forward: Callable[..., Any] = compute

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read `options`, check them, and create the parameter blobs with `add_blob`."""

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Return the shape of each top; raise `error` for bottoms that the layer cannot take.

        Called at build and again whenever input sizes change, so it changes nothing. None is a
        shape that the file does not tell (inputs only). By default every top has the shape of
        the first bottom.
        """
        return [bottom_shapes[0]] * self.top_count

    def input_shapes(self, given: Mapping[str, Shape]) -> Sequence[Shape | None]:
        """Return the shapes of an input layer's tops when the caller gives those in `given`."""
        return [
            given.get(name, shape)
            for name, shape in zip(self.layer_param.top, self.reshape([]), strict=True)
        ]

    def likely_shape(self) -> Shape | None:
        """Return what the first top of an input layer would be, if the file leaves it to guess."""
        return None

    def unknown_shape(self, top: str) -> UnknownShapeError:
        """Return the error for an input layer whose `top` nobody gave a shape."""
        return UnknownShapeError(
            top, f'the file does not tell the shape of input "{top}"', where=self.where
        )

    def checked_shape(self, top: str, shape: Shape | None) -> Shape:
        """Return `shape` if Caffe could make a blob of it.

        Raises
        ------
        SphereFaceError
            It is negative somewhere, or larger than a blob can be; nobody gave an input its shape.
        """
        if shape is None:
            raise self.unknown_shape(top)
        if min(shape, default=0) < 0 or math.prod(shape) > _MOST_VALUES:
            raise self.error(
                f'top "{top}" of shape {tuple(shape)}',
                expected=f"sizes of 0 or more, and at most {_MOST_VALUES} values, as Caffe has it",
            )
        return shape

    def explained(self, error: RuntimeError) -> Exception:
        """Return what a forward raised; of memory or sizes, an error that names the layer."""
        text = str(error)
        for told, problem in ((_NO_MEMORY, "no memory to compute it"),
                              (_NO_SIZE, "torch does not compute such sizes")):  # fmt: skip
            if any(part in text for part in told):
                return self.error(f"{problem} ({text.splitlines()[0][-160:]})")
        return error

    def add_blob(
        self, name: str, shape: Shape, filler: Any = None, *, buffer: bool = False
    ) -> None:
        """Create the next parameter blob as attribute `name`; zeros until `filler` fills it.

        With `buffer` it is a state that `forward` updates itself, not a parameter (BatchNorm).
        """
        spec = self.param_spec(len(self.blob_names))
        self.lr_mult.append(1.0 if spec is None else spec.lr_mult)
        self.decay_mult.append(1.0 if spec is None else spec.decay_mult)
        self.blob_names.append(name)
        if filler is not None:
            self._fillers[name] = filler
            if filler.type == "constant":
                self._constants[name] = filler.value
        try:
            blob = torch.zeros(shape)
        except RuntimeError:  # no memory, or a size beyond 64 bits
            raise self.error(
                f"no memory for blob {name} of shape {tuple(shape)}, {math.prod(shape)} values"
            ) from None
        if buffer:
            self.register_buffer(name, blob)
        else:
            self.register_parameter(name, nn.Parameter(blob, self.lr_mult[-1] != 0))

    def fill(self, generator: torch.Generator | None = None) -> None:
        """Fill the blobs that have a filler; once, and not at all if weights replace them."""
        for name, filler in self._fillers.items():
            try:
                fill_(getattr(self, name), filler, generator)
            except SphereFaceError as error:
                raise error.at(self.where) from None
        self.drop_fillers()

    def start_value(self, name: str) -> float:
        """Return the number that blob `name` is filled with; 0 if it is not one number."""
        return self._constants.get(name, 0.0)

    def drop_fillers(self) -> None:
        """Forget the fillers, because the blobs have their values."""
        self._fillers.clear()

    def build(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape | None]:
        """Run `setup`, check what the file says about blobs and losses, and run `reshape`."""
        self.setup(bottom_shapes)
        if len(self.layer_param.param) > len(self.blob_names):
            raise self.error(
                f"{len(self.layer_param.param)} param entries",
                expected=f"at most {len(self.blob_names)}, the layer's parameter blobs",
            )
        shapes = self.reshape(bottom_shapes)
        given = list(self.layer_param.loss_weight)
        if given and len(given) != len(shapes):
            raise self.error(
                f"{len(given)} loss_weight values",
                expected=f"none, or one for each of the {len(shapes)} top blobs",
            )
        default = [self.default_loss_weight] + [0.0] * (len(shapes) - 1)
        self.loss_weight = given or default[: len(shapes)]
        return shapes

    def train(self, mode: bool = True) -> Layer:
        """Set the phase to TRAIN (or TEST), unless the layer has a phase of its own."""
        return super().train(mode if self._own_phase is None else self._own_phase)

    def param_spec(self, index: int) -> Any:
        """Return the ParamSpec that the file gives for blob `index`, or None."""
        specs = self.layer_param.param
        return specs[index] if index < len(specs) else None

    @property
    def blobs(self) -> list[Tensor]:
        """The parameter blobs in Caffe's order."""
        return [getattr(self, name) for name in self.blob_names]

    @property
    def stored_shapes(self) -> list[Shape]:
        """The shapes of the parameter blobs in files, which hold all rows."""
        shapes = [tuple(blob.shape) for blob in self.blobs]
        return shapes if self.part is None else [(self.part.total, *s[1:]) for s in shapes]

    def option_name(self, option: str) -> str:
        """Return the name of the value of an enum option: ``"MAX"`` of ``pool: MAX``."""
        enum = self.options.DESCRIPTOR.fields_by_name[option].enum_type
        return enum.values_by_number[getattr(self.options, option)].name

    def canonical_axis(self, axis: int, shape: Shape) -> int:
        """Return `axis` counted from the front of `shape`; negative counts from the end."""
        if not -len(shape) <= axis < len(shape):
            raise self.error(
                f"axis {axis} for a bottom of shape {shape}",
                expected=f"{-len(shape)} to {len(shape) - 1}",
            )
        return axis % len(shape)

    def error(self, problem: str, *, expected: str = "", fix: str = "") -> SphereFaceError:
        """Return an error that names this layer; raise it."""
        return SphereFaceError(problem, where=self.where, expected=expected, fix=fix)

    def extra_repr(self) -> str:
        """Show the type, where the class serves several, and the sizes of the blobs."""
        words = [] if type(self).__name__ == self.type else [self.type]
        words += [
            f"{name} {'×'.join(map(str, blob.shape)) or 'scalar'}"
            for name, blob in zip(self.blob_names, self.blobs, strict=True)
        ]
        return ", ".join(words)

    def __getstate__(self) -> dict[str, Any]:
        # Messages of a private descriptor pool cannot be pickled by class name.
        state = dict(self.__dict__)
        state["layer_param"] = schema.encode(self.layer_param)
        state["_fillers"] = {}
        del state["options"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.layer_param = schema.decode("LayerParameter", state["layer_param"])
        field = param_field(self.type, type(self))
        self.options = getattr(self.layer_param, field) if field else None


def _keywords(function: Callable[..., Any] | None) -> tuple[str, ...]:
    if function is None:
        return ()
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
