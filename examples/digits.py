"""The digits images as both example scripts see them: float32 pixels in [0, 1], split once and for all.

python examples/digits.py digits.npz      # writes the test images, as `verify robustness` reads them
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1500


def load() -> tuple[np.ndarray[Any, Any], ...]:
    """Returns train images (1500, 64), train labels, test images (297, 64), test labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.data[order] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]


if __name__ == "__main__":
    _, _, test_x, test_y = load()
    np.savez(sys.argv[1], x=test_x, y=test_y)
