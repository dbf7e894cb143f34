"""Record what OpenCV 4, the last with an importer of Caffe's files, makes of detection nets.

    python tools/record_opencv.py PYTHON

PYTHON is an interpreter that has opencv-python-headless 4.14. The nets are those of
tests/support/reference/detection_nets.py; tests/golden/opencv gets a file a net with its outputs,
and those of its PriorBox, Proposal, ROIPooling and PSROIPooling layers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from reference.detection_nets import NETS, fill_again, inputs_of  # noqa: E402
from sphereface.caffe import load  # noqa: E402

RUN = """
import sys, cv2, numpy as np
net = cv2.dnn.readNetFromCaffe("net.prototxt", "net.caffemodel")
with np.load("inputs.npz") as inputs:
    for name in inputs.files:
        net.setInput(inputs[name], name)
names = sys.argv[1:]
np.savez("outputs.npz", version=cv2.__version__, **dict(zip(names, net.forward(names))))
"""
SHOWN = ("Proposal", "ROIPooling", "PSROIPooling", "PriorBox")


def record(name: str, python: str, folder: Path) -> dict[str, np.ndarray]:
    """Return the blobs of a net in OpenCV."""
    net = load(NETS[name]())
    fill_again(net)
    net.save(folder / "net.caffemodel")
    (folder / "net.prototxt").write_text(NETS[name]())
    np.savez(folder / "inputs.npz", **inputs_of(net))
    wanted = [str(layer.layer_param.top[0]) for layer in net.layers if layer.type in SHOWN]
    wanted = sorted({*net.outputs, *wanted})
    subprocess.run([python, "-c", RUN, *wanted], cwd=folder, check=True)
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)


def main() -> None:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="an interpreter with OpenCV 4")
    arguments = parser.parse_args()
    target = ROOT / "tests" / "golden" / "opencv"
    target.mkdir(exist_ok=True)
    for name in NETS:
        with tempfile.TemporaryDirectory() as folder:
            outputs = record(name, arguments.python, Path(folder))
        np.savez_compressed(target / f"{name}.npz", **outputs)
        shapes = ", ".join(f"{blob} {np.shape(value)}" for blob, value in outputs.items())
        print(f"{name}: {shapes}")


if __name__ == "__main__":
    main()
