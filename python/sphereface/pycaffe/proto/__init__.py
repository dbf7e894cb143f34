"""``caffe.proto``."""

from __future__ import annotations

from sphereface.pycaffe.proto import caffe_pb2 as caffe_pb2

__all__ = ["caffe_pb2"]
