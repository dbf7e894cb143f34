"""From a picture to its faces with embeddings, as insightface's ``FaceAnalysis.get``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.faces.alignment import align
from sphereface.faces.detectors import DetectorOptions, OpenDetector, open_detector
from sphereface.faces.embedders import Embedder, open_embedder
from sphereface.faces.face import Face, check_image

__all__ = ["FaceAnalyzer"]


class FaceAnalyzer:
    """Detects, aligns and embeds.

    Parameters
    ----------
    detector : str or OpenDetector
        A name of `open_detector`.
    embedder : Embedder, optional
        Of `caffe_embedder` for a net of yours; SFace without it, which says that it is no
        SphereFace.
    options : DetectorOptions, optional
        Of a detector that is given by name.

    Examples
    --------
    >>> analyzer = FaceAnalyzer("mtcnn")  # doctest: +SKIP
    >>> one, two = (analyzer.get(image)[0] for image in (left, right))  # doctest: +SKIP
    >>> float(one.embedding @ two.embedding)  # doctest: +SKIP
    0.71
    """

    def __init__(
        self,
        detector: str | OpenDetector = "mtcnn",
        embedder: Embedder | None = None,
        *,
        options: DetectorOptions | None = None,
    ) -> None:
        self.detector = open_detector(detector, options) if isinstance(detector, str) else detector
        self.embedder = embedder or open_embedder()

    def get(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB picture (H, W, 3), best first, with crop and embedding.

        Raises
        ------
        SphereFaceError
            The picture is none, or the detector has no landmarks to align by.
        """
        return self.get_many([image])[0]

    def get_many(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of each of several pictures; nets see them together."""
        for image in images:
            check_image(image)
        large = [min(image.shape[:2]) >= self.detector.smallest for image in images]
        found = iter(
            self.detector.detect([i for i, fits in zip(images, large, strict=True) if fits])
        )
        faces = [next(found) if fits else [] for fits in large]
        crops = [self._crop(image, face) for image, some in zip(images, faces, strict=True)
                 for face in some]  # fmt: skip
        if not crops:
            return [[] for _ in images]
        made = iter(zip(crops, self.embedder(np.stack(crops)), strict=True))
        return [
            [replace(face, crop=crop, embedding=row) for face, (crop, row) in zip(some, made)]  # noqa: B905
            for some in faces
        ]

    def _crop(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        template = self.embedder.template
        if face.landmarks is not None:
            return align(image, face.landmarks, template)
        if image.shape[:2] != (template.height, template.width):
            raise SphereFaceError(
                f"a face without landmarks in a picture of {image.shape[0]}x{image.shape[1]}",
                where="the detector",
                expected=f"five landmarks to align by, or a crop on template {template.name}",
                fix="use mtcnn or yunet, or align before",
            )
        return image
