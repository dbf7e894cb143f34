"""Nets that turn crops into embeddings, behind one seam."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sphereface import caffe
from sphereface.errors import SphereFaceError
from sphereface.faces.face import check_image
from sphereface.faces.presets import find_preset
from sphereface.faces.sface import SFACE_LABEL, SFace
from sphereface.faces.templates import Template, find_template
from sphereface.images import Preprocessing
from sphereface.inference import Predictor, image_input

__all__ = ["Embedder", "caffe_embedder", "open_embedder", "sface_embedder"]

_BATCH = 32
_NO_LENGTH = 1e-12


@dataclass(frozen=True, eq=False)
class Embedder:
    """A net for crops of a template.

    Attributes
    ----------
    label : str
        What its results are told to come from.
    identity : str
        A hash of weights and preparation; embeddings of others are not comparable.
    template : Template
        What crops it was trained on.
    compute : callable
        RGB crops (N, H, W, 3) -> features (N, K).
    """

    label: str
    identity: str
    template: Template
    compute: Callable[[NDArray[np.uint8]], NDArray[np.float32]]

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings of length 1, shape (N, K), of RGB crops (N, H, W, 3).

        Raises
        ------
        SphereFaceError
            The crops are not of the template's size, or the net gives no direction.
        """
        wanted = (self.template.height, self.template.width, 3)
        if np.shape(crops)[1:] != wanted:
            raise SphereFaceError(f"crops of shape {np.shape(crops)[1:]}", expected=f"{wanted}")
        for crop in crops[:1]:
            check_image(crop)
        parts = [self.compute(crops[at : at + _BATCH]) for at in range(0, len(crops), _BATCH)]
        rows = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(length).all() and (length > _NO_LENGTH).all()):
            raise SphereFaceError("an embedding of no direction", where=self.label,
                                  expected="finite numbers that are not all zero")  # fmt: skip
        return (rows / length).astype(np.float32)


def open_embedder(
    prototxt: str = "", caffemodel: str = "", *, preset: str = "sphereface", device: str = "cpu",
    blob: str = "",
) -> Embedder:  # fmt: skip
    """Return the embedder of a net of the user's, or without one `sface_embedder`'s."""
    if not prototxt and not caffemodel:
        return sface_embedder(device=device)
    return caffe_embedder(prototxt, caffemodel, preset=preset, device=device, blob=blob)


def caffe_embedder(
    prototxt: str | os.PathLike[str] = "",
    caffemodel: str | os.PathLike[str] = "",
    *,
    preset: str = "sphereface",
    device: str = "cpu",
    blob: str = "",
) -> Embedder:
    """Return the embedder of a Caffe net.

    Parameters
    ----------
    prototxt, caffemodel : path
        The net and its weights; one of them is enough if it holds both.
    preset : str
        How crops are prepared, of `sphereface.faces.presets.PRESETS`.
    device : str
    blob : str
        The feature; the net's only output without it.

    Raises
    ------
    SphereFaceError
        The net or its weights cannot be read, or it has several outputs.
    """
    net = caffe.load(prototxt or caffemodel, caffemodel or None)
    weights = os.fspath(caffemodel or prototxt)
    if net.load_report.left:
        missing = ", ".join(net.load_report.left)
        raise SphereFaceError(
            f"no weights for {missing}", where=weights, fix="give the model of this net"
        )
    chosen = find_preset(preset)
    predictor = Predictor(net, device=device)
    name, size = image_input(predictor)
    if not blob and len(net.outputs) != 1:
        raise SphereFaceError(
            f'net "{net.name}" has the outputs {", ".join(net.outputs)}',
            expected="one, the feature",
            fix="name the blob of the feature: --blob",
        )
    form = Preprocessing(color=chosen.color, mean=np.array([chosen.mean]), scale=chosen.scale)

    def features(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        ordered = crops[..., ::-1] if chosen.color == "bgr" else crops
        images = np.stack([form.blob(crop) for crop in ordered])
        tops = predictor({name: images}, (blob,) if blob else ())
        feature = tops[blob or net.outputs[0]]
        return feature.reshape(len(crops), -1).numpy()

    def compute(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = features(crops)
        if not chosen.with_mirror:
            return rows
        return np.concatenate([rows, features(crops[:, :, ::-1])], axis=1)

    described = f"{chosen} {size} {blob}".encode()
    digest = sha256(Path(weights).read_bytes() + described).hexdigest()
    label = f"{net.name or Path(weights).stem} ({Path(weights).name}, preset {chosen.name})"
    return Embedder(label, digest[:16], chosen.template(*size), compute)


def sface_embedder(model: str | os.PathLike[str] | None = None, *, device: str = "cpu") -> Embedder:
    """Return the embedder that needs no model of the user's: SFace, which is not SphereFace."""
    net = SFace(model).to(device)

    def compute(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
            return net(images.to(device, torch.float32)).cpu().numpy()

    return Embedder(SFACE_LABEL, net.digest[:16], find_template("arcface-112x112"), compute)
