"""Python layer classes: their base class, and which of them a prototxt may use.

Source: Caffe's python_layer.hpp and python/caffe/_caffe.cpp. What differs: a file that is loaded
never makes the program import a module by itself. The classes of modules that the program has
imported are free to use; others are imported only if `load` is told so by ``allow_python``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from enum import IntEnum
from importlib import import_module
from types import ModuleType
from typing import Any

from sphereface.caffe.blob import BlobVec
from sphereface.errors import SphereFaceError, nearest

__all__ = ["LayerPhase", "PythonLayer", "as_caffe", "importing_allowed", "make_python_layer"]

_FACADE = "sphereface.pycaffe"
_INSTEAD = {
    "rpn.proposal_layer": "; or, without py-faster-rcnn, have in its place the same layer built in:"
    ' type: "Proposal" and proposal_param { feat_stride: 16 }',
}
"""Modules of well-known repositories whose layers are built in."""

_METHODS = ("setup", "reshape", "forward")
_importable: ContextVar[bool | frozenset[str]] = ContextVar("importable", default=frozenset())


class LayerPhase(IntEnum):
    """The phase of a layer: a number, as BVLC's is, whose ``str`` is a name, as Fast R-CNN's is."""

    TRAIN = 0
    TEST = 1

    def __str__(self) -> str:
        return self.name


class PythonLayer:
    """What ``caffe.Layer`` is to a Python layer class.

    Attributes
    ----------
    param_str : str
        ``python_param.param_str``.
    phase : LayerPhase
        0 is TRAIN, 1 TEST.
    blobs : BlobVec
        Parameter blobs; `setup` adds them with ``self.blobs.add_blob(*shape)``.
    """

    param_str: str
    phase: LayerPhase
    blobs: BlobVec

    def __init__(self, param: Any = None) -> None:
        """Accept the LayerParameter, which a class that overrides this hands on."""

    @property
    def type(self) -> str:
        """The type in the file."""
        return "Python"

    def setup(self, bottom: Any, top: Any) -> None:
        """Read `param_str` and add parameter blobs; runs once."""

    def reshape(self, bottom: Any, top: Any) -> None:
        """Give the tops their shapes; runs before every forward."""
        raise NotImplementedError(f"{type(self).__name__}.reshape")

    def forward(self, bottom: Any, top: Any) -> None:
        """Write the tops' data."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Write the bottoms' diffs and add to the parameter blobs' diffs."""
        raise NotImplementedError(f"{type(self).__name__}.backward")


def make_python_layer(module: str, layer: str, param: Any, where: str) -> Any:
    """Return an instance of the class that a ``python_param`` names.

    Raises
    ------
    SphereFaceError
        The module may not be imported or cannot be, or it has no such layer class.
    """
    found = _module(module, where)
    cls = getattr(found, layer, None)
    if cls is None:
        raise SphereFaceError(
            f'module "{module}" has no "{layer}"', where=where, fix=nearest(layer, vars(found))
        )
    # Not everything that can be called is a layer: prototxts come from anywhere.
    if not isinstance(cls, type) or not all(callable(getattr(cls, m, None)) for m in _METHODS):
        raise SphereFaceError(
            f'"{module}.{layer}" is no layer class',
            where=where,
            expected="a class with the methods setup, reshape, forward and backward",
        )
    if issubclass(cls, PythonLayer):
        return cls(param)
    try:
        return cls()
    except TypeError as error:
        raise SphereFaceError(
            f'"{module}.{layer}" cannot be made ({error})',
            where=where,
            expected="a class derived from the Layer of sphereface.pycaffe, not of another caffe",
        ) from error


def _module(name: str, where: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    allowed = _importable.get()
    if allowed is not True and name not in allowed:  # type: ignore[operator]
        raise SphereFaceError(
            f'python_param names the module "{name}", which the program has not imported',
            where=where,
            fix=f"if you trust its code: --allow-python {name}; in Python, import it before loading"
            f' the net, or load(..., allow_python=["{name}"])' + _INSTEAD.get(name, ""),
        )
    try:
        return import_module(name)
    except ImportError as error:
        raise SphereFaceError(
            f'module "{name}" cannot be imported ({error})',
            where=where,
            fix="add its folder to PYTHONPATH",
        ) from error


@contextmanager
def importing_allowed(modules: bool | Iterable[str]) -> Iterator[None]:
    """Allow nets built inside the block to import `modules` for Python layers; True: any.

    What such a module imports as ``caffe`` is `sphereface.pycaffe`, if there is no caffe yet.
    """
    given = modules if isinstance(modules, bool) else frozenset(modules)
    token = _importable.set(given or frozenset())
    try:
        # By its name: the facade lies above this package, and only these modules need it.
        wanted = given and sys.modules.get("caffe") is None
        with as_caffe(import_module(_FACADE)) if wanted else nullcontext():
            yield
    finally:
        _importable.reset(token)


@contextmanager
def as_caffe(module: ModuleType) -> Iterator[None]:
    """Let ``import caffe`` find `module` inside the block, and its loaded submodules too.

    For layer classes and scripts written for pycaffe. A caffe that is installed is hidden for
    that time.

    Examples
    --------
    >>> from sphereface import pycaffe
    >>> with as_caffe(pycaffe):
    ...     import my_layers  # says: import caffe; class MyLayer(caffe.Layer)
    """
    prefix = f"{module.__name__}."
    before = {n: m for n, m in sys.modules.items() if n == "caffe" or n.startswith("caffe.")}
    if before.get("caffe") not in (None, module):
        for name in before:
            del sys.modules[name]
    ours = {
        f"caffe.{n.removeprefix(prefix)}": m for n, m in sys.modules.items() if n.startswith(prefix)
    }
    # What a program put there itself stays, during the block and after it.
    ours = {"caffe": module, **{n: m for n, m in ours.items() if n not in sys.modules}}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, found in ours.items():
            if sys.modules.get(name) is found:
                del sys.modules[name]
        sys.modules.update(before)
