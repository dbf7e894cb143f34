"""OpenCV's dnn behind a pipe, for benchmarks/inference.py; run with the Python that has OpenCV 4.

    python opencv_server.py PROTOTXT CAFFEMODEL THREADS

reads one request a line, `set FILE.npy`, `run COUNT` or `save FILE.npy`, and answers each with a
line: `ok`, or the seconds of COUNT passes.
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np


def main() -> None:
    """Serve until the pipe closes."""
    prototxt, caffemodel, threads = sys.argv[1:]
    cv2.setNumThreads(int(threads))
    net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
    print(cv2.__version__, flush=True)
    images = output = None
    for line in sys.stdin:
        request, argument = line.split(maxsplit=1)
        answer = "ok"
        if request == "set":
            images = np.load(argument.strip())
        elif request == "save":
            np.save(argument.strip(), output)
        else:
            begin = time.perf_counter()
            for _ in range(int(argument)):
                net.setInput(images)
                output = net.forward()
            answer = repr(time.perf_counter() - begin)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
