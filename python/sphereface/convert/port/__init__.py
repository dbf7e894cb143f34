"""`port`: a Caffe net as a PyTorch source file that stands alone, for people who leave Caffe.

What a layer computes is printed as it stands in `sphereface.caffe.layers`; the files here that are
named as a layer's write what torch.nn and torch.nn.functional have for it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sphereface.convert.port.module import pytorch_source
from sphereface.convert.port.text import argument_list, number
from sphereface.convert.port.writer import SOURCE_LAYERS, SourceWriter, source_layer

__all__ = [
    "SOURCE_LAYERS",
    "SourceWriter",
    "argument_list",
    "number",
    "pytorch_source",
    "source_layer",
]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
