"""Caffe's files as messages: schema, prototxt text, old formats, phase rules. Needs no torch."""
