"""Lets ``import caffe`` find this package, for scripts that are to run unchanged.

Only when asked for: nothing registers the name ``caffe`` by itself.
"""

from __future__ import annotations

import sys

from sphereface.errors import SphereFaceError

__all__ = ["install"]

_PACKAGE = __name__.rpartition(".")[0]


def install() -> None:
    """Register this package and its submodules as ``caffe``, for the rest of the process.

    Raises
    ------
    SphereFaceError
        Another caffe has been imported already.

    Examples
    --------
    >>> from sphereface import pycaffe
    >>> pycaffe.install()
    >>> import caffe
    >>> from caffe.proto import caffe_pb2
    """
    package = sys.modules[_PACKAGE]
    known = sys.modules.get("caffe")
    spec = getattr(known, "__spec__", None)
    # Any folder named caffe on the path can be imported, as a namespace package without an origin.
    if known is None or (spec is not None and spec.origin is None):
        known = sys.modules["caffe"] = package
    if known is not package:
        raise SphereFaceError(
            f"another caffe is imported already: {getattr(known, '__file__', known)}",
            where="install",
            fix="call install before anything imports caffe",
        )
    prefix = f"{_PACKAGE}."
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        sys.modules[f"caffe.{name.removeprefix(prefix)}"] = sys.modules[name]
    sys.modules["caffe.pycaffe"] = sys.modules[f"{_PACKAGE}.net"]  # as it was called there
