"""MTCNN, the detector that SphereFace's pictures were prepared with."""

from sphereface.faces.mtcnn.detector import Detector, Settings
from sphereface.faces.mtcnn.weights import Weights, find_weights

__all__ = ["Detector", "Settings", "Weights", "find_weights"]
