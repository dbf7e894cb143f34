"""Nets in use: run fast over arrays and images, and features streamed into files."""

from sphereface.inference.predictor import Predictor

__all__ = ["Predictor"]
