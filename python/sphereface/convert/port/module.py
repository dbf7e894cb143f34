"""A Caffe net as the text of a Python module.

A class with a submodule a layer and a forward in which every blob is a variable of its name. It
needs torch only and has the numbers of the net; its state_dict keys are ours, so the weights that
`sphereface convert` writes load into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sphereface.caffe import Layer, Net
from sphereface.convert.port.text import quoted
from sphereface.convert.port.writer import SOURCE_LAYERS, SourceWriter
from sphereface.errors import SphereFaceError

__all__ = ["pytorch_source"]


def pytorch_source(net: Net, class_name: str = "", made_from: str = "") -> str:
    """Return the text of a Python module that defines `net` without this package.

    Parameters
    ----------
    net : Net
        In phase TEST; its weights do not matter.
    class_name : str
        Name of the class; by default made from the net's name.
    made_from : str
        File name for the docstring.

    Raises
    ------
    SphereFaceError
        A layer has no PyTorch source; the error names it and its line.

    Examples
    --------
    >>> net = sphereface.caffe.load(prototxt_path("sphereface_4_deploy"))  # doctest: +SKIP
    >>> print(pytorch_source(net))  # doctest: +SKIP
    """
    if net.phase != "TEST":
        raise SphereFaceError(
            f'net "{net.name}" is in phase {net.phase}',
            expected="phase TEST, and a deploy prototxt",
        )
    class_name = class_name or _class_name(net.name)
    if not class_name.isidentifier():
        raise SphereFaceError(f'"{class_name}" is no name for a class')
    writer = _written(net)
    writer.modules += _sharing(net, writer)
    return _module_text(net, writer, class_name, made_from)


def _written(net: Net) -> SourceWriter:
    """Write all layers, again until no variable has a name that the definitions use."""
    taken: set[str] = set()
    while True:
        writer = SourceWriter(net, taken)
        for node, layer in zip(net.graph.nodes, net.layers, strict=True):
            if layer.is_input:
                continue
            bottoms = [writer.variables[slot] for slot in node.bottoms]
            write = SOURCE_LAYERS.find(layer) or SourceWriter.call
            expression = write(writer, layer, *bottoms)
            tops = [writer.variables[slot] for slot in node.tops]
            if tops and expression != ", ".join(tops):
                writer.assign(tops, expression)
        if writer.definitions.names <= taken:
            return writer
        taken |= writer.definitions.names


def _class_name(name: str) -> str:
    words = re.split(r"[^0-9a-zA-Z]+", name)
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return joined if joined.isidentifier() else f"Net{joined}"


def _sharing(net: Net, writer: SourceWriter) -> Iterator[str]:
    """Yield the lines that make shared blobs one."""
    owners: dict[int, tuple[Layer, str]] = {}
    for layer in net.layers:
        own = {
            name for named in (layer.named_parameters, layer.named_buffers) for name, _ in named()
        }
        for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
            if name not in own:
                raise layer.error(
                    f"blob {name} is shared in another shape (share_mode: PERMISSIVE)",
                    expected="blobs shared in one shape",
                )
            owner = owners.setdefault(id(blob), (layer, name))
            if owner[0] is not layer:
                source = f"{writer.submodule(owner[0])}.{owner[1]}"
                yield f"        {writer.submodule(layer)}.{name} = {source}"


def _module_text(net: Net, writer: SourceWriter, class_name: str, made_from: str) -> str:
    inputs = [writer.variables[slot] for slot in net.graph.inputs.values()]
    outputs = {name: writer.variables[slot] for name, slot in net.graph.outputs.items()}
    shapes = [
        f"{name} {net.blob_shapes[blob]}" for name, blob in zip(inputs, net.inputs, strict=True)
    ]
    source = f" from {_prose(made_from)}" if made_from else ""
    result, returned = "Tensor", next(iter(outputs.values()), "None")
    if len(outputs) != 1:
        result = "dict[str, Tensor]"
        returned = f"{{{', '.join(f'{quoted(name)}: {v}' for name, v in outputs.items())}}}"
    lines = [
        f'"""{_prose(net.name) or class_name}: a Caffe net as PyTorch code, with the same numbers.',
        "",
        f"Made by `sphereface port`{source}. Needs torch only.",
        "Weights are those that `sphereface convert` writes:",
        "",
        f"    net = {class_name}().eval()",
        '    net.load_state_dict(torch.load("weights.pt", weights_only=True))',
        '"""',
        "",
    ]
    code = []
    for definition in writer.definitions.texts:
        code += ["", "", definition]
    code += [
        "",
        "",
        f"class {class_name}(nn.Module):",
        f'    """Built for {", ".join(shapes)}."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *writer.modules,
        "",
        f"    def forward(self, {', '.join(f'{name}: Tensor' for name in inputs)}) -> {result}:",
        f'        """Return {_prose(", ".join(outputs))}."""',
        *writer.statements,
        f"        return {returned}",
    ]
    text = "\n".join(code)
    return "\n".join([*lines, *_imports(writer.definitions.imports, text), text]) + "\n"


def _imports(needed: dict[str, str], text: str) -> list[str]:
    """Return the lines that import what `text` uses, the standard library's first."""
    torch = ["from torch import Tensor, nn"]
    for name, line in (("F", "import torch.nn.functional as F"), ("torch", "import torch")):
        if re.search(rf"\b{name}\.", text):
            torch.insert(0, line)
    others = sorted(line for line in needed.values() if "torch" not in line)
    return [*others, *[""] * bool(others), *torch]


def _prose(text: str) -> str:
    """Return what a file calls something as part of a docstring, which it must not end."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
