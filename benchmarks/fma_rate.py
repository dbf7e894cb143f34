"""How many float32 multiply-adds a second a machine sustains: the floor of every convolution.

A loop in C, compiled for this machine by `cc`, whose sums never leave the registers. That is more
than any matrix product reaches, and what no other order of the same multiplications can beat.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = """
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float vector __attribute__((vector_size(BYTES)));
enum { SUMS = 12 };  /* enough to hide the latency of two units */
double multiply_adds(long rounds, float factor) {
  vector a = {}, s[SUMS] = {};
  a += factor;
  for (int j = 0; j < SUMS; ++j) s[j] += factor * j;  /* no two are the same sum */
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < SUMS; ++j) s[j] = s[j] * a + a;
  }
  for (int j = 1; j < SUMS; ++j) s[0] += s[j];
  volatile float used = s[0][0];
  (void)used;
  return (double)rounds * SUMS * (BYTES / sizeof(float));
}
"""
ROUNDS = 4_000_000
TRIES = 5


def fma_rate(threads: int) -> float:
    """Return float32 multiply-adds a second of all threads together, the best of some tries."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "fma.c"), Path(folder, "fma.so")
        source.write_text(SOURCE)
        options = ["-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared"]
        subprocess.run(["cc", *options, source, "-o", library], check=True)
        function = ctypes.CDLL(str(library)).multiply_adds
        function.argtypes, function.restype = [ctypes.c_long, ctypes.c_float], ctypes.c_double
        best = 0.0
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(TRIES):
                begin = time.perf_counter()
                done = sum(pool.map(lambda _: function(ROUNDS, 0.5), range(threads)))
                best = max(best, done / (time.perf_counter() - begin))
    return best
