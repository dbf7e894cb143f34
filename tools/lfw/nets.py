"""The prototxts of a run: one body, a head for each method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfw.lists import HEIGHT, WIDTH
from sphereface.annealing import Annealing
from sphereface.proto import text
from sphereface.resources import prototxt_path

BASE, LAMBDA_MIN, ANNEALED = 1000, 5, 0.1
FALLS = (0.6, 0.85)  # of the run: where the rate falls to a tenth

ANGULAR = """
layer {{ name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label"
  top: "fc6" top: "lambda" param {{ lr_mult: 1 decay_mult: 1 }}
  margin_inner_product_param {{ num_output: {classes} type: {kind}
    weight_filler {{ type: "xavier" }}
    base: {base} gamma: {gamma} power: 1 lambda_min: {lambda_min} iteration: 0 }} }}
"""
COSINES = """
layer {{ name: "norm5" type: "Normalize" bottom: "fc5" top: "norm5" }}
layer {{ name: "cosine" type: "InnerProduct" bottom: "norm5" top: "cosine"
  param {{ lr_mult: 1 decay_mult: 1 }} inner_product_param {{ num_output: {classes}
    bias_term: false normalize: true weight_filler {{ type: "xavier" }} }} }}
{margin}
layer {{ name: "fc6" type: "Scale" bottom: "{scaled}" top: "fc6"
  param {{ lr_mult: 0 decay_mult: 0 }} scale_param {{ axis: 0 num_axes: 0
  filler {{ type: "constant" value: 16 }} }} }}
"""
LINEAR = """
layer {{ name: "fc6" type: "InnerProduct" bottom: "fc5" top: "fc6"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  inner_product_param {{ num_output: {classes} weight_filler {{ type: "xavier" }} }} }}
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""
COSFACE = """layer { name: "margin" type: "LabelSpecificAdd" bottom: "cosine" bottom: "label"
  top: "margin" label_specific_add_param { bias: -0.2 } }"""
ARCFACE = """layer { name: "margin" type: "CosinAddm" bottom: "cosine" bottom: "label"
  top: "margin" cosin_add_m_param { m: 0.2 } }"""
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "softmax": (LINEAR, {}),
    "m=1": (ANGULAR, {"kind": "SINGLE"}),
    "m=2": (ANGULAR, {"kind": "DOUBLE"}),
    "m=4": (ANGULAR, {"kind": "QUADRUPLE"}),
    "NormFace": (COSINES, {"margin": "", "scaled": "cosine"}),
    "CosFace": (COSINES, {"margin": COSFACE, "scaled": "margin"}),
    "ArcFace": (COSINES, {"margin": ARCFACE, "scaled": "margin"}),
}


@dataclass(frozen=True)
class Settings:
    """How a net is trained, whatever the method.

    Attributes
    ----------
    net : str
        A packaged net.
    divide : int
        Its channels are divided by this.
    height, width : int
        Of the faces, in pixels.
    epochs, batch : int
    rate, decay : float
        The first learning rate; the weights' decay.
    """

    net: str = "sphereface_4_bn"
    divide: int = 4
    height: int = 56
    width: int = 48
    epochs: int = 10
    batch: int = 128
    rate: float = 0.05
    decay: float = 0.0005


# The authors' batch is 512 at a rate of 0.1; nets without batch normalisation take no larger one.
WHOLE = Settings(divide=1, height=HEIGHT, width=WIDTH, epochs=40, batch=256)


def prototxts(
    settings: Settings, method: str, seed: int, classes: int, iterations: int, folder: Path
) -> dict[str, Any]:
    """Return net, deploy net and solver by file name; the folder of faces is above `folder`."""
    net, deploy = (
        _divided(text.read(prototxt_path(f"{settings.net}_{kind}")), settings.divide)
        for kind in ("train", "deploy")
    )
    first = next(i for i, layer in enumerate(net.layer) if layer.name == "fc6")
    del net.layer[first:]
    head, words = METHODS[method]
    annealing = Annealing.over(max(1, int(iterations * ANNEALED)), LAMBDA_MIN, BASE)
    numbers = {"base": BASE, "gamma": annealing.gamma, "lambda_min": LAMBDA_MIN}
    net.MergeFrom(text.read(head.format(classes=classes, **numbers, **words) + LOSS))
    data = net.layer[0].image_data_param
    data.source = str(folder.parent / "train.txt")
    data.root_folder, data.batch_size = f"{folder.parent / 'train'}/", settings.batch
    deploy.input_dim[2:] = [settings.height, settings.width]
    solver = text.read(prototxt_path(f"{settings.net}_solver"), "SolverParameter")
    solver.net, solver.snapshot_prefix = str(folder / "net.prototxt"), str(folder / "net")
    solver.base_lr, solver.weight_decay = settings.rate, settings.decay
    solver.max_iter, solver.random_seed = iterations, seed
    solver.stepvalue[:] = [int(iterations * part) for part in FALLS]
    solver.display, solver.snapshot = 20, max(1, iterations // 4)
    solver.ClearField("solver_mode")
    return {"net.prototxt": net, "deploy.prototxt": deploy, "solver.prototxt": solver}


def _divided(net: Any, divisor: int) -> Any:
    for layer in net.layer:
        for name in ("convolution_param", "inner_product_param"):
            if layer.HasField(name):
                getattr(layer, name).num_output //= divisor
    return net
