"""A small training on image files: a folder with a solver, a net, a list and pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES, PER_CLASS = 4, 10

NET = """
name: "tiny"
layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  transform_param {{ mean_value: 127.5 scale: 0.0078125 mirror: true }}
  image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/" is_color: false
    batch_size: {batch} shuffle: true new_height: 8 new_width: 8 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 8 kernel_size: 3 stride: 2 pad: 1
    weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "PReLU" bottom: "conv" top: "conv" }}
layer {{ name: "fc5" type: "InnerProduct" bottom: "conv" top: "fc5"
  inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label"
  top: "fc6" top: "lambda"
  margin_inner_product_param {{ num_output: 4 type: QUADRUPLE weight_filler {{ type: "xavier" }}
    base: 100 gamma: 0.12 lambda_min: 5 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc6" bottom: "label" top: "accuracy"
  include {{ phase: TEST }} }}
"""

SOLVER = """
net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "step" stepsize: 20 gamma: 0.5
momentum: 0.9 weight_decay: 0.0005 random_seed: 3 solver_mode: CPU
snapshot_prefix: "{folder}/tiny" {more}
"""


def write_training(folder: Path, more: str, batch: int = 8) -> Path:
    """Write pictures of four kinds of stripes, their list, the net and the solver."""
    rng = np.random.default_rng(5)
    lines = []
    for label in range(CLASSES):
        for number in range(PER_CLASS):
            axis = np.arange(8)[:, None] if label % 2 else np.arange(8)[None, :]
            stripes = 127 + 100 * np.sin(axis * (1 + label) + np.zeros((8, 8)))
            name = f"{label}_{number}.png"
            cv2.imwrite(
                str(folder / name),
                np.clip(stripes + rng.normal(0, 20, (8, 8)), 0, 255).astype("u1"),
            )
            lines.append(f"{name} {label}\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "net.prototxt").write_text(NET.format(folder=folder, batch=batch))
    solver = folder / "solver.prototxt"
    solver.write_text(SOLVER.format(folder=folder, more=more))
    return solver
