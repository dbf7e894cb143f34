"""The layer catalogue: a file a type (or family); importing this package registers them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

__all__: list[str] = []  # reached by their registration

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
