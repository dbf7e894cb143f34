"""How the C library keeps large buffers between uses.

glibc gives a freed buffer of some MiB back to the system, and the next one of that size is mapped
and cleared page by page again. A net in training asks for the same large blobs in every pass:
tuned, a step of SphereFace-4 takes 0.825 [0.685, 0.942] of the time, and the largest amount of
memory is 921 MiB instead of 804. A folded net's forward reuses scratch of its own and gains
nothing, 1.017 (benchmarks/allocator.py).
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["tune_allocator"]

# malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

_MOST_KEPT = 2**31 - 1  # mallopt takes an int
_SHARE_KEPT = 4  # of the machine's memory, a quarter
_TOP_PAD = 64 << 20
# Older releases refuse more: half of a thread's heap.
_OLD_MMAP_THRESHOLD = 32 << 20

_USERS_OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def tune_allocator() -> bool:
    """Let this process keep the memory of large buffers for the next ones.

    The commands of ``sphereface`` and ``python -m sphereface.pycaffe`` do so by themselves; a
    Python program calls it once, before its first net. It sets glibc's ``M_MMAP_THRESHOLD``,
    ``M_TRIM_THRESHOLD`` and ``M_TOP_PAD`` for the whole process, whatever its threads compute.

    What it costs: freed memory at the end of the heap, up to a quarter of the machine's and never
    more than 2 GiB, stays with the process, and so does what lies between buffers in use. The
    largest amount that a training ever holds grew by a seventh.

    Returns
    -------
    bool
        Whether it was done. It is not, and nothing changes, where the C library is not glibc or
        the user has chosen already, in ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``,
        ``MALLOC_TOP_PAD_`` or ``GLIBC_TUNABLES``.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in tunables or any(name in os.environ for name in _USERS_OWN):
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of that name
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kept = min(_MOST_KEPT, memory // _SHARE_KEPT)
    done = library.mallopt(_M_MMAP_THRESHOLD, kept) or library.mallopt(
        _M_MMAP_THRESHOLD, _OLD_MMAP_THRESHOLD
    )
    done = library.mallopt(_M_TRIM_THRESHOLD, kept) and done
    done = library.mallopt(_M_TOP_PAD, _TOP_PAD) and done
    return bool(done)
