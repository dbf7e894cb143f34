from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.inference import Predictor
from sphereface.inference.cuda_graphs import Recorded

NET = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""


class Recorder:
    """Stands for a device: what it replays is in the same memory every time."""

    def __init__(self, fails=()):
        self.recorded, self.replayed, self.fails = [], [], fails

    def __call__(self, run, inputs):
        rows = len(inputs["x"])
        if rows in self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded.append(rows)
        held = {name: value.clone() for name, value in run(inputs).items()}

        def replay(given):
            self.replayed.append(rows)
            for name, value in run(given).items():
                held[name].copy_(value)
            return held

        return replay


def doubled(inputs, blobs=()):
    return {"y": 2 * inputs["x"], **dict.fromkeys(blobs, inputs["x"] + 1)}


def ask(run, rows, value=1.0, blobs=()):
    found = run({"x": torch.full((rows, 2), value)}, blobs)
    assert torch.equal(found["y"], torch.full((rows, 2), 2 * value))
    assert list(found) == ["y", *blobs]
    return found


def test_the_second_pass_of_a_shape_is_recorded_and_the_third_replayed():
    recorder = Recorder()
    run = Recorded(doubled, recorder)
    ask(run, 3)
    assert recorder.recorded == []
    second = ask(run, 3, 5.0)
    third = ask(run, 3, 7.0)
    assert (recorder.recorded, recorder.replayed) == ([3], [3, 3])
    # The replay's memory is used again, the results are not.
    assert second["y"][0, 0] == 10
    assert third["y"][0, 0] == 14
    ask(run, 3, blobs=("z",))
    ask(run, 3, blobs=("z",))
    assert recorder.recorded == [3, 3]


def test_no_more_recordings_than_allowed():
    recorder = Recorder()
    run = Recorded(doubled, recorder, most=2)
    for rows in (1, 2, 1, 2, 1, 3, 3):  # 2 is the one unused longest
        ask(run, rows)
    assert recorder.recorded == [1, 2, 3]
    ask(run, 1)
    assert recorder.recorded == [1, 2, 3]
    ask(run, 2)
    assert recorder.recorded == [1, 2, 3, 2]


def test_what_cannot_be_recorded_is_run():
    recorder = Recorder(fails=(2,))
    run = Recorded(doubled, recorder)
    for value in (1.0, 2.0, 3.0, 4.0):
        ask(run, 2, value)
    assert recorder.replayed == []
    ask(run, 1)
    ask(run, 1)
    assert recorder.replayed == [1]


def test_only_on_a_gpu():
    with pytest.raises(SphereFaceError, match="CUDA graphs on cpu; expected a CUDA device"):
        Predictor(load(NET), cuda_graphs=True)


@pytest.mark.cuda
def test_replays_have_the_numbers_of_the_net(norm_error):
    net = load(NET)
    batches = [torch.randn(rows, 3, 8, 8) for rows in (1, 4, 1, 4, 1, 4)]
    with torch.no_grad():
        expected = [net(batch)["fc"].clone() for batch in batches]
    predictor = Predictor(net, device="cuda", cuda_graphs=True)
    found = [predictor({"data": batch})["fc"] for batch in batches]
    for ours, theirs in zip(found, expected, strict=True):
        assert norm_error(ours, theirs) < 1e-3  # TF32 may be on
