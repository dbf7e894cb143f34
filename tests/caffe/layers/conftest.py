"""Tells the catalogue's test which layer types the tests of each file run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from reference import multibox
from reference.types_run import TYPES_RUN
from sphereface.caffe.layer import Layer


@pytest.fixture(autouse=True)
def types_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Note the types of the layers that are built, of data layers, and run, of the others."""
    file = request.path.stem
    noted = request.config.stash.setdefault(TYPES_RUN, {}).setdefault(file, set())
    build, call = Layer.build, Layer.__call__

    def noted_build(layer: Layer, bottom_shapes: Sequence[Any]) -> Any:
        if layer.is_input:
            noted.add(layer.type)
        return build(layer, bottom_shapes)

    def noted_call(layer: Layer, *bottoms: Any) -> Any:
        if not torch.compiler.is_compiling():
            noted.add(layer.type)
        return call(layer, *bottoms)

    monkeypatch.setattr(Layer, "build", noted_build)
    monkeypatch.setattr(Layer, "__call__", noted_call)


@pytest.fixture
def run_multibox(layer_net: Callable[..., Any]) -> Callable[..., Any]:
    """Run a loss of the MultiBox family over its bottoms, given as `reference.multibox.layer`."""

    def run(bottoms: Mapping[str, NDArray[Any]], options: str = "", **given: Any) -> Any:
        shapes = {name: value.shape for name, value in bottoms.items()}
        return layer_net(multibox.layer(bottoms, options, **given), **shapes).run(bottoms)

    return run
