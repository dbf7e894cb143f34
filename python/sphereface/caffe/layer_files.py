"""Layer types from a Python file that the user names: ``--layers my_layers.py``.

Nothing but the user's own word makes this package run a file's code; a prototxt cannot.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from sphereface.caffe.registry import layer_class, list_layers
from sphereface.errors import SphereFaceError
from sphereface.files import open_regular

__all__ = ["load_layers"]


def load_layers(path: str | os.PathLike[str]) -> ModuleType:
    """Run a Python file that registers layer types (`register_layer`), once a process.

    The file can import what lies beside it, as a program can. Its module has the file's name, so
    that Python layers of a net are found in it too.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    module

    Raises
    ------
    SphereFaceError
        It cannot be read, fails, or registers nothing.
    """
    file, name = Path(path).absolute(), Path(path).stem
    with open_regular(path, "file of layers"):
        pass
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if known and Path(known) == file:
            return module
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        raise SphereFaceError(
            f'"{name}" is no name for a module, or another has it',
            where=os.fspath(path),
            fix="rename the file, such as my_layers.py",
        )
    module = _run(file, name)
    if not any(layer_class(kind).__module__ == name for kind in list_layers()):
        raise SphereFaceError(
            "registers no layer type",
            where=os.fspath(path),
            expected='a class with @sphereface.caffe.register_layer("Type")',
        )
    return module


def _run(file: Path, name: str) -> ModuleType:
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SphereFaceError("no Python file", where=str(file), expected="a name that ends in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except SphereFaceError as error:
        del sys.modules[name]
        raise error.at(str(file)) from None
    except Exception as error:
        del sys.modules[name]
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(file)), None)
        line = getattr(error, "lineno", None) or line  # of a SyntaxError
        raise SphereFaceError(
            f"the file of layers fails: {type(error).__name__}: {error}",
            where=f"{file}:{line}" if line else str(file),
        ) from error
    finally:
        sys.path.remove(str(file.parent))
    return module
