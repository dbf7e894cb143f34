r"""Batches one after the other with all threads, or as many at a time as threads, with one each.

Latency and throughput, as inference engines call them, of `Predictor` on a CPU, for the same
pictures in batches of several sizes. All take turns; ratios are taken within a round: of the two at
a batch size, and of the two at the size that suits each best.

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

NETS = {"mobilefacenet": (64, (1, 2, 4, 8, 16)), "sphereface_20": (16, (1, 4, 8))}  # pictures
PAUSE = 0.02  # seconds until the threads before sleep
MODES = ("latency", "throughput")


def quartiles(values: list[float]) -> list[float]:
    """Return lower quartile, median and upper quartile."""
    return [round(v, 4) for v in statistics.quantiles(values, n=4, method="inclusive")]


def measure(name: str, args: argparse.Namespace, pool: ThreadPoolExecutor) -> dict[str, object]:
    """Return the milliseconds a picture of both modes at every batch size, and their ratios."""
    pictures, batches = NETS[name]
    predictor = Predictor(prepare(name, args.models / name))
    shape = predictor.net.blob_shapes["data"][1:]
    inputs = {batch: {"data": torch.randn(batch, *shape)} for batch in batches}
    taken: dict[tuple[str, int], list[float]] = {(m, b): [] for m in MODES for b in batches}
    for counted in range(args.rounds + 1):
        for mode, batch in taken:
            torch.set_num_threads(args.threads if mode == "latency" else 1)
            time.sleep(PAUSE)
            each = map if mode == "latency" else pool.map
            begin = time.perf_counter()
            for _ in each(predictor, [inputs[batch]] * (pictures // batch)):
                pass
            if counted:
                taken[mode, batch].append((time.perf_counter() - begin) / pictures * 1e3)
    rows = {
        batch: {
            **{mode: quartiles(taken[mode, batch]) for mode in MODES},
            "ratio": ratio(taken["latency", batch], taken["throughput", batch]),
        }
        for batch in batches
    }
    best = {mode: min(batches, key=lambda b: statistics.median(taken[mode, b])) for mode in MODES}
    of_best = ratio(*(taken[mode, best[mode]] for mode in MODES))
    return {"ms_a_picture": rows, "best_batch": best, "ratio_of_best": of_best}


def ratio(latency: list[float], throughput: list[float]) -> list[float]:
    """Return the quartiles of throughput's time as a multiple of latency's."""
    return quartiles([ours / its for ours, its in zip(throughput, latency, strict=True)])


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that keeps the nets")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    record = {"date": str(dt.date.today()), "threads": args.threads, "rounds": args.rounds}
    found = {}
    with ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for name in NETS:
            found[name] = measure(name, args, pool)
            print(name, json.dumps(found[name]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({**record, "nets": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
