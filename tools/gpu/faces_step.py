"""Step faces: SphereFace-20 trained by ``sphereface train`` on packed LFW, m = 1 against m = 4.

People of LFW's first fold are not trained on; its 600 pairs, in ten parts, are verified as the
protocol does: the threshold of each part comes from the other nine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from google.protobuf import text_format

from gpu import pictures
from gpu.results import figure
from gpu.step import options
from sphereface.caffe import load
from sphereface.cli.main import main as sphereface
from sphereface.evaluation import ten_fold
from sphereface.inference import Predictor
from sphereface.proto import text
from sphereface.resources import prototxt_path

MARGINS = {"m=1": "SINGLE", "m=4": "QUADRUPLE"}
DEPTH, ITERATIONS, BATCH = "20", 200, 256


def write_solver(
    folder: Path, found: pictures.Pictures, margin: str, depth: str, iterations: int, batch: int
) -> Path:
    """Write net and solver; lambda falls faster than the paper's, for so short a training."""
    net = text.read(prototxt_path(f"sphereface_{depth}_train"))
    data = net.layer[0].image_data_param
    data.source, data.batch_size = str(found.train), batch
    head = next(layer for layer in net.layer if layer.type == "MarginInnerProduct")
    param = head.margin_inner_product_param
    param.num_output, param.gamma = found.people, 1.0
    param.type = type(param).MarginType.Value(margin)
    (folder / "net.prototxt").write_text(text_format.MessageToString(net))
    solver = folder / "solver.prototxt"
    solver.write_text(
        f'net: "net.prototxt" base_lr: 0.05 lr_policy: "multistep" gamma: 0.1'
        f" stepvalue: {max(1, iterations * 6 // 10)} stepvalue: {max(2, iterations * 85 // 100)}"
        f" max_iter: {iterations} momentum: 0.9 weight_decay: 0.0005 display: 20 random_seed: 1"
        f' snapshot_prefix: "{folder / "face"}"\n'
    )
    return solver


def embed(paths: list[Path], run: Predictor, batch: int) -> np.ndarray:
    """Return the features of pictures and of their mirror images, side by side."""
    rows = []
    for begin in range(0, len(paths), batch):
        read = np.stack([cv2.imread(str(path)) for path in paths[begin : begin + batch]])
        images = torch.from_numpy(read).permute(0, 3, 1, 2).float().sub(127.5).mul(0.0078125)
        both = [run({"data": x.contiguous()})["fc5"] for x in (images, images.flip(3))]
        rows.append(np.concatenate([np.asarray(torch.as_tensor(f).cpu()) for f in both], 1))
    return np.concatenate(rows)


def main() -> None:
    """Train, then verify."""
    args = options(__doc__)
    if not (args.pack / "lfw.tar").exists():
        figure("verification", "the pack is absent (make gpu-pack)")
        return
    depth, iterations, batch = ("4", 2, 4) if args.rehearse else (DEPTH, ITERATIONS, BATCH)
    with tempfile.TemporaryDirectory() as name:
        found = pictures.unpack(args.pack, Path(name))
        figure("people to train on", found.people, "people")
        for title, margin in MARGINS.items():
            folder = Path(name, margin)
            folder.mkdir()
            solver = write_solver(folder, found, margin, depth, iterations, batch)
            command = ["train", "--solver", str(solver), "--channels-last"]
            command += (
                ["--gpu", "none"] if args.device == "cpu" else ["--gpu", "0", "--amp", "bf16"]
            )
            begin = time.perf_counter()
            if sphereface(command):
                sys.exit(f"sphereface {' '.join(command)} failed")
            figure(f"{title}, {iterations} iterations", time.perf_counter() - begin, "s")
            model = folder / f"face_iter_{iterations}.caffemodel"
            net = load(prototxt_path(f"sphereface_{depth}_deploy"), model)
            features = embed(found.held_out, Predictor(net, device=args.device), 64)
            fold = np.arange(len(found.same)) % 10
            result = ten_fold(features[found.left], features[found.right], found.same, fold)
            figure(f"{title}, verification of people held out", 100 * result.mean, "%")


if __name__ == "__main__":
    main()
