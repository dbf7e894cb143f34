"""Faces: from photographs to crops that nets understand."""

from sphereface.faces.alignment import align
from sphereface.faces.face import Face
from sphereface.faces.similarity import fit_similarity
from sphereface.faces.templates import TEMPLATES, Template, find_template
from sphereface.faces.warp import warp

__all__ = ["TEMPLATES", "Face", "Template", "align", "find_template", "fit_similarity", "warp"]
