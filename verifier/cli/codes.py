"""What every command has in common with the shell: exit codes, and variables of the environment."""

from __future__ import annotations

import enum
from typing import Final

# how many threads a BLAS library starts; numpy's reads these once, when it is loaded
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Exit(enum.IntEnum):
    """What the exit code says."""

    ANSWERED = 0  # a verdict was printed, whichever it is
    FAILED = 2  # no verdict: bad input, or a defect
    INTERRUPTED = 130  # by SIGINT; what was known by then is printed and saved (SIGTERM: 143)
