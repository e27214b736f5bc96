"""Certified radii: nothing inside them changes the class, and local bounds reach further than global ones."""

from __future__ import annotations

import numpy as np
from lipschitz_nets import Net, random_net

import sdp
from bounds.evaluate import evaluate
from sdp.radius import certified_radius


def test_no_point_inside_changes_the_class(rng: np.random.Generator) -> None:
    graph = random_net(rng, "Relu", (4, 12, 12, 3)).model().graph
    local, everywhere = [], []
    for _ in range(4):
        x = rng.standard_normal(4)
        found = certified_radius(graph, x, effort=sdp.Effort(seconds=5, sampling=None))
        step = rng.standard_normal((500, 4))
        step *= found.best * 0.999 / np.linalg.norm(step, axis=1, keepdims=True)
        assert np.all(evaluate(graph, x + step).argmax(1) == found.label)
        local.append(found.local)
        everywhere.append(found.everywhere)
    assert np.mean(local) > 1.5 * np.mean(everywhere)


def test_a_linear_classifier_has_its_exact_distance() -> None:
    graph = Net(2).dense(np.array([[1.0, 0.0], [0.0, 1.0]])).model().graph
    found = certified_radius(graph, np.array([3.0, 1.0]))
    np.testing.assert_allclose(found.everywhere, 2 / np.sqrt(2), rtol=1e-9)
    assert found.everywhere <= 2 / np.sqrt(2)


def test_a_tie_has_no_radius() -> None:
    graph = Net(2).dense(np.eye(2)).model().graph
    assert certified_radius(graph, np.ones(2)).best == 0.0
