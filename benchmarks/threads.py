r"""Batches one after the other with all threads, or as many at a time as threads, with one each.

Latency and throughput, as inference engines call them, of `Predictor` on a CPU: the two take turns,
and the ratio of a round's times is kept.

    python benchmarks/threads.py --models build/nets [--json benchmarks/results/NAME.json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from forward_nets import prepare

from sphereface.inference import Predictor

TURNS = (("mobilefacenet", 1, 32), ("mobilefacenet", 16, 4), ("sphereface_20", 16, 2))


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that keeps the nets")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))
    for name, batch, passes in TURNS:
        predictor = Predictor(prepare(name, args.models / name))
        images = torch.randn(batch, *predictor.net.blob_shapes["data"][1:])
        seconds: dict[str, list[float]] = {"latency": [], "throughput": []}
        for _ in range(args.rounds + 1):
            torch.set_num_threads(args.threads)
            begin = time.perf_counter()
            for _ in range(passes):
                predictor({"data": images})
            seconds["latency"].append(time.perf_counter() - begin)
            torch.set_num_threads(1)
            time.sleep(0.02)  # until the threads before sleep
            begin = time.perf_counter()
            for _ in pool.map(lambda _: predictor({"data": images}), range(passes)):  # noqa: B023
                pass
            seconds["throughput"].append(time.perf_counter() - begin)
        pairs = zip(seconds["throughput"][1:], seconds["latency"][1:], strict=True)
        low, middle, high = statistics.quantiles([ours / its for ours, its in pairs], n=4)
        print(f"{name}, batch {batch}: throughput takes {middle:.3f} [{low:.3f} .. {high:.3f}]"
              " of latency's time")  # fmt: skip
        rows.append({"net": name, "batch": batch, "ratio": [low, middle, high]})
    if args.json:
        record = {"date": str(dt.date.today()), "threads": args.threads, "rounds": args.rounds}
        args.json.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
