"""Prototxts that are not of the kind that was wanted: a solver for a net, a label map for either.

Told by the names of the outermost fields, before their first unknown one is.
"""

from __future__ import annotations

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto._text_tree import Tree

__all__ = ["check_kind"]

_OURS = {"NetParameter": "a net's prototxt", "SolverParameter": "a solver's prototxt"}

# Outermost fields of files that are no Caffe message of today, any of which tells the kind.
_OTHERS = {
    "a label map": {"item"},
    "a TensorFlow graph": {"node", "versions", "library"},
    "a TensorFlow Object Detection pipeline": {"train_config", "eval_config"},
    "a Caffe2 net": {"op", "external_input", "external_output"},
    "a Triton model configuration": {"max_batch_size", "instance_group"},
}


def check_kind(tree: Tree, name: str) -> None:
    """Raise if the text of `tree` is plainly another kind of file than message `name`.

    Raises
    ------
    SphereFaceError
        It is; the error says what the file is.
    """
    if name not in _OURS:
        return
    given = {entry.name for entry in tree.root.entries}
    unknown = given - _names(name)
    if not unknown:
        return
    for other, what in _OURS.items():
        if other != name and len(given - _names(other)) < len(unknown):
            raise _error(tree, what, name, _net_of_solver(tree) if "Net" in name else "")
    for what, names in _OTHERS.items():
        if names & given and not names & _names(name):
            raise _error(tree, what, name)
    if name == "NetParameter" and "type" in given and given <= _names("LayerParameter"):
        raise _error(tree, "a layer's fields", name, "put them into layer { }")


def _names(message: str) -> set[str]:
    return {field.name for field in schema.message(message).DESCRIPTOR.fields}


def _net_of_solver(tree: Tree) -> str:
    net = tree.root.first("net") or tree.root.first("train_net")
    return f'its net is in "{net}"' if net else ""


def _error(tree: Tree, what: str, name: str, fix: str = "") -> SphereFaceError:
    return SphereFaceError(what, where=tree.source, expected=_OURS[name], fix=fix)
