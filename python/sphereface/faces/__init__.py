"""Faces: from photographs to crops that nets understand."""

from sphereface.faces.alignment import align
from sphereface.faces.analyzer import FaceAnalyzer
from sphereface.faces.embedders import Embedder, caffe_embedder, sface_embedder
from sphereface.faces.face import Face
from sphereface.faces.similarity import fit_similarity
from sphereface.faces.templates import TEMPLATES, Template, find_template
from sphereface.faces.warp import warp

__all__ = [
    "TEMPLATES",
    "Embedder",
    "Face",
    "FaceAnalyzer",
    "Template",
    "align",
    "caffe_embedder",
    "find_template",
    "fit_similarity",
    "sface_embedder",
    "warp",
]
