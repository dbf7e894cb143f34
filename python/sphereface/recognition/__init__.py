"""Who is it: people enrolled in a gallery, found again in pictures and video."""

from sphereface.recognition.calibration import Threshold, calibrate, read_calibration
from sphereface.recognition.gallery import Gallery, Match
from sphereface.recognition.tracks import Tracks

__all__ = ["Gallery", "Match", "Threshold", "Tracks", "calibrate", "read_calibration"]
