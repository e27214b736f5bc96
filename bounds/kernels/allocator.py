"""Keeps freed memory in the process, so that large temporaries do not fault their pages in anew.

NumPy hands every temporary above 128 KiB back to the kernel and gets zeroed pages for the next one; on
blocks of packed rows that costs as much as the arithmetic (measured: 40 % of the CPU time). glibc can be
told to keep such blocks on its heap. Elsewhere this does nothing.
"""

from __future__ import annotations

import sys

# mallopt parameters (malloc.h)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 1 << 30


def keep_pages() -> bool:
    """Raises glibc's thresholds for returning memory; true when it took effect."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP))
