"""NumPy archives: one array of inputs, one of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bounds.errors import BadInput
from verifier.gate.data.base import Raw, Wanted
from verifier.robustness.data import INPUT_KEYS, LABEL_KEYS, pick_array, read_archive


def read(path: Path, wanted: Wanted) -> Raw:
    """See :class:`verifier.gate.data.base.Raw`."""
    arrays = read_archive(path)
    x_name, x = pick_array(arrays, wanted.inputs or None, INPUT_KEYS, path, "inputs", option="the key ")
    _, y = pick_array(arrays, wanted.labels or None, LABEL_KEYS, path, "labels", option="the key ")
    if x.ndim == 0:
        raise BadInput(f"{path}, array '{x_name}': is a single number; give samples along the first axis")
    return Raw(
        y, [str(i) for i in range(len(x))], lambda places: np.asarray(x[places]), f"{path}, array '{x_name}'"
    )
