"""Step inference: images a second of SphereFace-20's forward."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

import torch
from hand_written import HandWritten

from gpu.results import figure
from gpu.step import options
from sphereface.caffe import load
from sphereface.inference import Predictor
from sphereface.resources import prototxt_path


def rate(forward: Callable[[torch.Tensor], object], images: torch.Tensor, rounds: int) -> float:
    """Return images a second, the median over rounds."""
    wait = torch.cuda.synchronize if images.is_cuda else contextlib.nullcontext
    rates = []
    with torch.inference_mode():
        forward(images)
        for _ in range(rounds):
            wait()
            begin = time.perf_counter()
            forward(images)
            wait()
            rates.append(len(images) / (time.perf_counter() - begin))
    return statistics.median(rates)


def main() -> None:
    """Measure."""
    args = options(__doc__)
    rounds = 2 if args.rehearse else 15
    torch.manual_seed(0)
    for size in (1, 2) if args.rehearse else (1, 256):
        images = torch.randn(size, 3, 112, 96, device=args.device)
        hand = HandWritten().eval().to(args.device, memory_format=torch.channels_last)
        ways: dict[str, Callable[[torch.Tensor], object]] = {
            "by hand, channels_last": lambda x, hand=hand: hand(
                x.contiguous(memory_format=torch.channels_last)
            )
        }
        forms = [("", {}), (" --bfloat16", {"bfloat16": True})]
        if args.device != "cpu":
            forms.append((" --cuda-graphs", {"cuda_graphs": True}))
        for option, form in forms:
            net = load(prototxt_path("sphereface_20_deploy"), generator=torch.Generator())
            run = Predictor(net, device=args.device, **form)
            ways[f"sphereface run{option}"] = lambda x, run=run: run({"data": x})["fc5"]
        for name, forward in ways.items():
            figure(f"batch {size}, {name}", rate(forward, images, rounds), "images/s")


if __name__ == "__main__":
    main()
