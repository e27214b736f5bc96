"""What every test relies on: one thread, seeded randomness, hypothesis profiles.

Warnings as errors and strict markers are in ``pyproject.toml``. Nothing here loosens numpy: floating
point behaves in tests as it does for users.
"""

from __future__ import annotations

import os

# before anything imports numpy: BLAS reads these once
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import random  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# `ci` repeats exactly; `deep` is for a night; choose with HYPOTHESIS_PROFILE
_SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile("deep", deadline=None, max_examples=2000, suppress_health_check=_SLOW_IS_FINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Global generators start equal in every test; tests should still make their own with ``rng``."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (guards against code under test that uses the global one)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def examples(root: Path) -> Path:
    """The folder of example networks and properties."""
    return root / "examples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The instance collection for tests marked ``shared``."""
    value = os.environ.get("SUREBOUND_SHARED", "")
    if not value or not (Path(value) / "vnncomp").is_dir():
        pytest.skip("SUREBOUND_SHARED does not name a directory holding vnncomp/")
    return Path(value)
