"""tune_allocator, in processes of its own: it changes the whole process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from sphereface.allocator import tune_allocator

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Takes and frees 96 MiB again and again, touching every page; prints what the kernel had to map.
FAULTS = """
import ctypes, resource, sys
from sphereface.allocator import tune_allocator
tuned = tune_allocator() if sys.argv[1] == "tuned" else None
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def use():
    buffer = library.malloc(96 << 20)
    ctypes.memset(buffer, 1, 96 << 20)
    library.free(buffer)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    use()
print(tuned, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    tuned, count = done.stdout.split()
    return tuned, int(count)


def test_large_buffers_are_mapped_once():
    pages = (96 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults("as it is")[1] >= 3 * pages
    tuned, count = faults("tuned")
    assert (tuned, count < pages / 10) == ("True", True)


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"},
    ],
)
def test_the_users_own_settings_stay(environment):
    tuned, count = faults("tuned", **environment)
    assert tuned == "False"
    assert count >= 3 * (96 << 20) // os.sysconf("SC_PAGE_SIZE")


def test_another_c_library_is_left_alone(monkeypatch):
    for name in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert tune_allocator() is False
