"""Products of inputs and outputs appended to a graph: the same values as the property's own arithmetic."""

from fractions import Fraction as F

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds.evaluate import evaluate
from bounds.graph import GraphBuilder, Op
from bounds.monomials import with_products
from bounds.passes.base import Pipeline
from bounds.passes.dead import DropDead
from bounds.passes.fold import FoldMoves
from bounds.passes.fuse import FuseScale


def network():
    """Inputs ``a: [2, 2]`` and ``b: [1]``; outputs ``relu(2 a - 1)`` and ``b`` itself."""
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 2)), builder.input("b", (1,))
    scaled = builder.add(
        Op.SCALE, (a,), (2, 2), {"scale": np.full((2, 2), 2.0), "shift": np.full((2, 2), -1.0)}
    )
    builder.output("p", builder.add(Op.RELU, (scaled,), (2, 2)))
    builder.output("q", b)
    return builder.build()


NUMBERS = st.sampled_from([F(k, 2) for k in range(-6, 7)] + [F(1, 3), F(-2, 7)])
MONOMIALS = st.dictionaries(
    st.tuples(st.booleans(), st.integers(0, 4)), st.integers(1, 4), min_size=1, max_size=5
).map(lambda d: tuple((*k, d[k]) for k in sorted(d)))


@settings(deadline=None)
@given(st.lists(MONOMIALS, min_size=1, max_size=6), st.lists(NUMBERS, min_size=5, max_size=5))
def test_values(monomials, point):
    graph = network()
    extended = with_products(graph, monomials)
    rewritten = Pipeline([FoldMoves(), FuseScale(exact_only=False), DropDead()]).apply(extended).graph
    x = np.array([point], dtype=object)
    y = evaluate(graph, x)[0]
    for made in (extended, rewritten):
        values = evaluate(made, x)[0]
        assert list(values[:5]) == list(y)
        for monomial, value in zip(monomials, values[5:], strict=True):
            wanted = F(1)
            for output, index, exponent in monomial:
                wanted *= (y[index] if output else point[index]) ** exponent
            assert value == wanted


def test_form():
    """The documented order of nodes and elements, which certificates rely on."""
    x0, x3, y4 = (False, 0, 1), (False, 3, 1), (True, 4, 1)
    monomials = [(x0, x3, y4), ((False, 3, 2),), ((False, 0, 3), y4), (x0, (True, 4, 2))]
    graph = with_products(network(), monomials)
    assert [str(n.params["function"]) for n in graph.scalars] == ["x^2", "x^3"]
    assert [n.size for n in graph.scalars] == [2, 1]
    assert [n.size for n in graph.products] == [3, 1]
    assert all(n.roundings == 0 and n.weight_error == 0 for n in (*graph.scalars, *graph.products))
    assert graph.outputs[-1].shape == (4,)


def test_without_monomials_nothing_changes():
    graph = network()
    assert with_products(graph, []) is graph
