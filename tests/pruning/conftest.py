from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.pruning import plan_pruning
from sphereface.weights import definition_text


def fill(net, seed=3):
    """Make every blob random, statistics positive, and the net float64."""
    generator = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
            values = torch.randn(blob.shape, generator=generator)
            if name in ("variance", "scale_factor"):
                values = values.abs() + 0.5
            elif blob.dim() > 1:
                values *= (2 / blob[0].numel()) ** 0.5
            blob.data.copy_(values)
    return net.double()


class Pair:
    """A net with random weights and what is left of it after pruning, both in float64."""

    def __init__(self, prototxt, shapes=None, **options):
        self.shapes = shapes
        self.text = definition_text(prototxt)
        self.full = fill(load(self.text, input_shapes=shapes))
        self.plan = plan_pruning(self.full, **options)
        self.pruned_text = self.plan.prototxt(self.text)
        self.small = load(self.pruned_text, input_shapes=shapes).double()
        self.small.copy_from(self.plan.weights, strict=True)

    def removed(self, convolution):
        blob = self.full.layer(convolution).num_output
        return np.setdiff1d(np.arange(blob), self.plan.kept[convolution])

    def silence(self, convolution, *layers):
        """Zero what was removed of a convolution in it and in the `layers` behind, by hand."""
        for name in (convolution, *layers):
            for blob in self.full.layer(name).blobs:
                axis = 1 if blob.dim() == 4 and blob.shape[0] == 1 else 0
                if blob.numel() > 1:
                    blob.data.index_fill_(axis, torch.as_tensor(self.removed(convolution)), 0)

    def difference(self):
        """Return how far the small net's outputs are from the silenced one's."""
        torch.manual_seed(0)
        inputs = {
            name: torch.randn(self.full.blob_shapes[name], dtype=torch.float64)
            for name in self.full.inputs
        }
        with torch.no_grad():
            full, small = self.full.eval()(inputs), self.small.eval()(inputs)
        assert full.keys() == small.keys()
        assert all(value.abs().max() > 0.01 for value in full.values())
        return max(((full[n] - small[n]).abs().max() / full[n].abs().max()).item() for n in full)


@pytest.fixture
def pair():
    return Pair
