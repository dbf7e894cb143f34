"""Nets with weights that a wrong conversion cannot hide behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reference.layer_examples import fill
from sphereface.caffe import Net, load


@pytest.fixture
def build() -> Callable[..., Net]:
    """Load a net by text or path; its blobs are random, statistics positive."""

    def build(prototxt: object, caffemodel: object = None, **options: object) -> Net:
        net = load(prototxt, caffemodel, **options)
        if caffemodel is not None:
            return net
        fill(net)
        return net.eval()

    return build
