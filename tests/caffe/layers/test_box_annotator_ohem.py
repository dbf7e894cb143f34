from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "two": example(
        "BoxAnnotatorOHEM", "roi_per_img: 2", tops=2,
        rois=(5, 5), loss=(5, 1), label=(5, 1), weights=(5, 8),
    ),
}  # fmt: skip

BOTTOMS = "".join(f' bottom: "{name}"' for name in ("rois", "loss", "label", "weights"))


def layer(options: str) -> str:
    return (
        f'layer {{ name: "l" type: "BoxAnnotatorOHEM"{BOTTOMS} top: "labels" top: "boxes"'
        f" box_annotator_ohem_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("image", [(), (1, 1), (2, 3)])
def test_the_largest_losses_of_each_image(image, layer_net, rng):
    batch = 7
    bottoms = {
        "rois": rng.normal(size=(batch, 5, *image)),
        "loss": rng.permutation(batch * int(np.prod(image))).reshape(batch, 1, *image) * 1.0,
        "label": rng.integers(1, 4, size=(batch, 1, *image)) * 1.0,
        "weights": rng.uniform(1, 2, size=(batch, 8, *image)),
    }
    bottoms["rois"][:, 0] = rng.integers(0, 3, size=(batch, *image))
    shapes = {name: value.shape for name, value in bottoms.items()}
    tops = layer_net(layer("roi_per_img: 2 ignore_label: -7"), **shapes).run(bottoms).tops

    images, losses = bottoms["rois"][:, 0].ravel(), bottoms["loss"].ravel()
    kept = np.zeros(len(losses), bool)
    for each in np.unique(images):
        (mine,) = np.nonzero(images == each)
        kept[mine[np.argsort(-losses[mine])[:2]]] = True
    kept = kept.reshape(batch, 1, *((*image, 1, 1)[:2]))
    label = bottoms["label"].reshape(kept.shape)
    weights = bottoms["weights"].reshape(batch, 8, *kept.shape[2:])
    np.testing.assert_array_equal(tops["labels"], np.where(kept, label, -7))
    np.testing.assert_allclose(tops["boxes"], np.where(kept, weights, 0), rtol=1e-7)


def test_what_is_refused(layer_net):
    shapes = {"rois": (3, 5), "loss": (3, 1), "label": (3, 1), "weights": (3, 8)}
    with pytest.raises(SphereFaceError, match="roi_per_img is 0 or not given; expected at least 1"):
        layer_net(layer(""), **shapes)
    with pytest.raises(SphereFaceError, match="bottoms of shapes .* expected regions"):
        layer_net(layer("roi_per_img: 1"), **{**shapes, "rois": (3, 4)})
