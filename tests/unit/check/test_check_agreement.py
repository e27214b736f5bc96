"""Prover and checker share no code, but a format: the same nonlinear nodes, the same declared roundings."""

from __future__ import annotations

import math
from typing import Any

import checker_nets as nets
import numpy as np
import pytest
import test_check_functions as functions
import test_check_operators as operators

from bounds.expression import Expr, Fn
from bounds.graph import Graph
from bounds.io.onnx import load_bytes
from bounds.relax.model_rounding import KERNELS as PROVERS
from bounds.relax.scalar import scalar_function
from verifier.check.cells import extent, least
from verifier.check.functions import Function, call
from verifier.check.importer import combine
from verifier.check.network import Kind
from verifier.check.rounding import KERNELS, model_error


def listed(graph: Graph) -> dict[Kind, list[tuple[str, int]]]:
    """As the certificate's writer lists them."""
    return {
        kind: [(n.tensor or n.source, n.size) for n in found]
        for kind, found in (
            (Kind.RELU, graph.relus),
            (Kind.SCALAR, graph.scalars),
            (Kind.PRODUCT, graph.products),
        )
    }


@pytest.mark.parametrize("case", operators.MODELS, ids=lambda c: f"{c[0]}-{'x'.join(map(str, c[3]))}")
def test_both_find_the_same_nodes(case: Any) -> None:
    _, nodes, weights, shape, opset = case
    data = nets.model(nodes, weights, shape, opset=opset)
    graph = load_bytes(data, "model").graph
    network = combine({"": data}, nets.make_property(math.prod(shape), graph.output_size, []))
    for kind, wanted in listed(graph).items():
        found = [network.nodes[i] for i in network.of(kind)]
        assert [n.size for n in found] == [size for _, size in wanted]
        assert all(name in n.names for n, (name, _) in zip(found, wanted, strict=True))


def test_both_declare_the_same_errors() -> None:
    names = {fn: fn.value[0] for fn in PROVERS}
    assert {names[fn]: numbers for fn, numbers in PROVERS.items()} == dict(KERNELS)


def expression(f: Function) -> Expr:
    """The checker's program as the prover's expression."""
    known: list[Expr] = []
    by_name = {fn.value[0]: fn for fn in Fn}
    for step in f:
        known.append(Expr(by_name[step.fn], tuple(known[a] for a in step.args), step.value))
    return known[-1]


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_both_find_the_same_lines(name: str) -> None:
    """Two engines that know nothing of each other; each is rigorous, so both are tight where they agree."""
    f = functions.FUNCTIONS[name]
    engine = scalar_function(expression(f))
    low, high, _ = functions.intervals(np.random.default_rng(9), 120)
    with np.errstate(all="ignore"):
        below, above = engine.supporting(low, high, (low + high) / 2)
        theirs = engine.intercepts(low, high, below, above)
        ours = (
            least(f, low, high, below, exact=False),
            -least(call("neg", f), low, high, -above, exact=False),
        )
        ranges = engine.range(low, high), extent(f, low, high, exact=False)
        errors = engine.model_error(low, high), model_error(f, low, high)
    scale = 1 + np.abs(ranges[0][0]) + np.abs(ranges[0][1]) + np.abs(below) * 4 + np.abs(above) * 4
    for a, b in ((theirs[0], ours[0]), (theirs[1], ours[1]), *zip(*ranges, strict=True)):
        assert np.all(np.isfinite(b))
        if name != "strict":  # there the prover is wide where an interval ends at the jump
            assert np.all(np.abs(a - b) <= 1e-9 * scale)
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.05)
