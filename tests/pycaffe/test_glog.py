from __future__ import annotations

import re

import pytest

from sphereface import pycaffe as caffe
from sphereface.pycaffe import glog


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch):
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    yield
    caffe.init_log()


def test_a_line_looks_like_glogs(capsys):
    caffe.log("Using devices [0]")
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+\.cpp:\d+\] Using devices \[0\]\n", line
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), True),
        ((0,), True),
        ((0, True), True),
        ((0, False), False),
        ((1,), False),
        ((2, True), False),
    ],
)
def test_init_log(arguments, told, capsys):
    caffe.init_log(*arguments)
    caffe.log("x")
    assert bool(capsys.readouterr().err) is glog.logs_information() is told


def test_the_environment_says_unless_the_program_does(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "1")
    assert not glog.logs_information()
    caffe.init_log(0)
    assert glog.logs_information()
    caffe.init_log()
    assert not glog.logs_information()
