"""Equilibrium networks and differential equations, against simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

from bounds.errors import BadInput
from sdp.implicit import equilibrium, one_sided, well_posed


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def test_equilibrium_is_above_simulated_pairs_and_near_the_jacobians(rng: np.random.Generator) -> None:
    for _ in range(6):
        w, u, out = rng.standard_normal((8, 8)), rng.standard_normal((8, 4)), rng.standard_normal((3, 8))
        w *= 0.8 / np.linalg.norm(w, 2)
        b = rng.standard_normal(8)
        bound = equilibrium(w, u, out)

        def solve(x: np.ndarray, w: np.ndarray = w, u: np.ndarray = u, b: np.ndarray = b) -> np.ndarray:
            z = np.zeros(8)
            for _ in range(300):
                z = relu(w @ z + u @ x + b)
            return z

        lower = 0.0
        for _ in range(60):
            x = 3 * rng.standard_normal(4)
            z = solve(x)
            active = np.diag((w @ z + u @ x + b > 0).astype(float))
            lower = max(
                lower, float(np.linalg.norm(out @ np.linalg.solve(np.eye(8) - active @ w, active @ u), 2))
            )
            y = x + rng.standard_normal(4)
            assert np.linalg.norm(out @ (z - solve(y))) <= bound.upper * np.linalg.norm(x - y) * (1 + 1e-9)
        assert lower <= bound.upper <= 3 * lower


def test_linear_feedforward_case_is_exact() -> None:
    """W = 0: y = out relu(U x); with one neuron the product of the two norms."""
    bound = equilibrium(np.zeros((1, 1)), np.array([[3.0, 4.0]]), np.array([[2.0]]))
    assert bound.upper == pytest.approx(10.0, rel=1e-4) and bound.upper >= 10.0


def test_ill_posed_equilibria_are_refused() -> None:
    with pytest.raises(BadInput, match="unique"):
        equilibrium(np.array([[1.5]]), np.ones((1, 1)), np.ones((1, 1)))
    assert not well_posed(np.eye(2), np.ones(2))
    assert well_posed(-5 * np.eye(2), np.ones(2))  # monotone although its norm is large


def test_one_sided_constant_bounds_every_slope_pattern(rng: np.random.Generator) -> None:
    for _ in range(5):
        w, g = rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
        bound = one_sided(w, g).upper
        patterns = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
        worst = max(float(np.linalg.eigvalsh((g * p @ w + (g * p @ w).T) / 2)[-1]) for p in patterns)
        assert worst <= bound * (1 + 1e-9) + 1e-9
        assert bound <= worst + 0.5 * np.linalg.norm(g, 2) * np.linalg.norm(w, 2)


def test_contraction_has_no_positive_constant() -> None:
    """z' = -relu(z): slopes 0 are allowed, so the constant is 0."""
    assert one_sided(np.eye(2), -np.eye(2)).upper == pytest.approx(0.0, abs=1e-3)
