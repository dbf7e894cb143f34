"""Nets with weights that a wrong conversion cannot hide behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sphereface.caffe import Net, load


@pytest.fixture
def build() -> Callable[..., Net]:
    """Load a net by text or path; its blobs are random, statistics positive."""

    def build(prototxt: object, caffemodel: object = None, **options: object) -> Net:
        net = load(prototxt, caffemodel, **options)
        if caffemodel is not None:
            return net
        generator = torch.Generator().manual_seed(2017)
        for layer in net.layers:
            for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
                if name in ("variance", "scale_factor"):
                    blob.data.uniform_(1, 2, generator=generator)
                elif name in ("mean", "bias") or layer.type in ("PReLU", "Scale", "Parameter"):
                    blob.data.normal_(0, 0.3, generator=generator)
        return net.eval()

    return build


@pytest.fixture
def inputs_of() -> Callable[..., list[torch.Tensor]]:
    """Random inputs of the net's shapes, with more samples and larger images if told."""

    def inputs_of(net: Net, more: int = 0, larger: int = 0) -> list[torch.Tensor]:
        found = []
        for name in net.inputs:
            batch, *sizes = net.blob_shapes[name]
            sizes = sizes[:1] + [size + larger for size in sizes[1:]]
            found.append(torch.randn(batch + more, *sizes))
        if {"Embed", "BatchReindex"} & {layer.type for layer in net.layers}:
            found = [x.abs().clamp(max=4).floor() for x in found]
        return found

    return inputs_of
