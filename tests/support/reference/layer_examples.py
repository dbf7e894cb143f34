"""Small layers of every type, for what is tested of all layers alike: compilers and converters.

Each test file of tests/caffe/layers has a dict EXAMPLES of its types. Inputs called label, index,
cont and p hold labels (0 to 2), indices (0 to 4), marks (0 and 1) and probabilities, region and
info regions of an image of 50 pixels and its size, truth two boxes; others normal numbers.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from sphereface.caffe import Net
from sphereface.caffe.registry import layer_class, param_field

__all__ = ["Example", "example", "examples", "fill", "inputs"]

FOLDER = Path(__file__).parents[2] / "caffe" / "layers"
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Example:
    """Layers, the last of the type that they are an example of.

    Attributes
    ----------
    shapes : dict
        Of the inputs, by blob name.
    images : bool
        Takes images of any size.
    batch : bool
        Takes any size of axis 0.
    opencv : bool
        OpenCV's dnn runs its ONNX form.
    """

    type: str
    layers: str
    shapes: Shapes
    images: bool
    batch: bool
    opencv: bool = True

    def text(self, *, convolved: bool = False) -> str:
        """Return the prototxt.

        With `convolved` images go through a 1x1 convolution first: runtimes keep its result in a
        layout of their own.
        """
        lines = []
        for blob, shape in self.shapes.items():
            through = convolved and len(shape) == 4
            top = f"{blob}_image" if through else blob
            dims = " ".join(f"dim: {size}" for size in shape)
            lines.append(
                f'layer {{ name: "in_{blob}" type: "Input" top: "{top}"'
                f" input_param {{ shape {{ {dims} }} }} }}"
            )
            if through:
                lines.append(
                    f'layer {{ name: "conv_{blob}" type: "Convolution" bottom: "{top}"'
                    f' top: "{blob}" convolution_param {{ num_output: {shape[1]} kernel_size: 1'
                    ' weight_filler { type: "xavier" } } }'
                )
        return "\n".join([*lines, self.layers])


def example(
    kind: str,
    options: str = "",
    *,
    tops: int = 1,
    images: bool = False,
    batch: bool = True,
    opencv: bool = True,
    before: str = "",
    fields: str = "",
    **shapes: tuple[int, ...],
) -> Example:
    """Return an example of one layer on `shapes`, its bottoms.

    `options` are those of the type's own message, `fields` others of the layer; `before` are
    layers in front of it, whose tops are further bottoms where they are no bottoms' names.
    """
    layer_class(kind)
    bottoms = [*shapes, *(["made"] * ('top: "made"' in before))]
    field = param_field(kind)
    text = f'layer {{ name: "l" type: "{kind}" '
    text += " ".join(f'bottom: "{name}"' for name in bottoms)
    names = ["y", *(f"y{i}" for i in range(2, tops + 1))][:tops]
    text += "".join(f' top: "{name}"' for name in names)
    text += f" {field} {{ {options} }}" if options else ""
    return Example(kind, f"{before}\n{text} {fields} }}".strip(), shapes, images, batch, opencv)


@cache
def examples() -> dict[str, Example]:
    """Return the examples of all test files, by ``file.name``."""
    found = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"examples_of_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, given in getattr(module, "EXAMPLES", {}).items():
            found[f"{path.stem.removeprefix('test_')}.{name}"] = given
    return found


def fill(net: Net) -> None:
    """Fill blobs at random, so that a wrong conversion cannot hide; statistics are positive."""
    generator = torch.Generator().manual_seed(2017)
    for layer in net.layers:
        for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
            if name in ("variance", "scale_factor"):
                blob.data.uniform_(1, 2, generator=generator)
            elif name != "weight" or layer.type in ("PReLU", "Scale") or not blob.any():
                blob.data.normal_(0, 0.3, generator=generator)


def inputs(net: Net, more: int = 0, larger: int = 0) -> list[torch.Tensor]:
    """Return inputs of the net's shapes, with more samples and larger images if told."""
    found = []
    for name in net.inputs:
        first, *sizes = net.blob_shapes[name]
        sizes = sizes[:1] + [size + larger for size in sizes[1:]]
        shape = [first + more, *sizes]
        if name in ("label", "index"):
            value = torch.randint(0, 3 if name == "label" else 5, shape).float()
        elif name == "truth":
            value = torch.tensor(
                [[0.0, 1, 0, 0.1, 0.2, 0.5, 0.6, 0], [1, 2, 0, 0.4, 0.4, 0.9, 0.8, 0]]
            )
            value = value.reshape(shape)
        elif name == "info":
            value = torch.tensor([[50.0, 50, 1]])
        elif name == "region":
            near = 30 * torch.rand(first, 2)
            value = torch.cat([torch.zeros(first, 1), near, near + 20 * torch.rand(first, 2)], 1)
        elif name == "cont":
            value = torch.ones(shape)
            value[0] = 0
        else:
            value = torch.rand(shape) if name == "p" else torch.randn(shape)
        found.append(value)
    return found
