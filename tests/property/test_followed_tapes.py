"""A tape made again in another arithmetic, with what the first one chose, holds every point of its box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import blur_of, node_values, points, tape_faults, tape_of
from strategies import Box, boxes, build, examples, networks

from bounds.graph import Graph
from bounds.methods.row_choices import Followed
from bounds.methods.rule import Rule
from bounds.numerics import FLOAT32, FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

MOVES = ("linear", "linear", "add", "take", "smooth", "product", "relu", "dense_relu")
FIRST = Rule(forward=False, sharpen=3, keep=True)


def faults(graph: Graph, box: Box, seed: int) -> list[str]:
    first = tape_of(graph, box, FLOAT32, FIRST)
    again = tape_of(graph, box, FLOAT64, replace(FIRST, follow=Followed(first)))
    x, values = node_values(graph, points(np.random.default_rng(seed), box.lo[0], box.hi[0])[-12:])
    return tape_faults(graph, again, 0, values, blur_of(graph)) if len(x) else []


@examples(25)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_random_networks(data: st.DataObject, seed: int) -> None:
    graph = data.draw(networks(moves=MOVES, most=5, scales=("ordinary", "dyadic"), inputs=((2,), (3,))))
    assert faults(graph, data.draw(boxes(graph.input_size, most=1, extreme=False)), seed) == []


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_the_first_tape_up_to_its_rounding(seed: int) -> None:
    """Without the parameters of single rows they would be visibly wider."""
    moves = ["linear", "relu", "linear", "relu", "linear", "relu", "linear"]
    graph = build(seed, moves, inputs=(4,))
    box = Box(np.full((1, 4), -1.0), np.full((1, 4), 1.0))
    first = tape_of(graph, box, FLOAT32, replace(FIRST, sharpen=20))
    again = tape_of(graph, box, FLOAT64, replace(FIRST, follow=Followed(first)))
    for one, other in zip(first.relus, again.relus, strict=True):
        for a, b in ((one.lo, other.lo), (one.hi, other.hi)):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-4)
        assert np.array_equal(one.refined[0], other.refined[0])
    assert faults(graph, box, seed) == []
