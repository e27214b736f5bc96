"""Every affine primitive keeps its contract: four maps that agree with each other and with evaluation.

The truth is the matrix read off the reference evaluation at unit vectors, in exact rationals. Weights
are small integers, so that every precision must reproduce it without any error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from oracles import exactly, matrix_of

from bounds.evaluate import evaluate
from bounds.graph import Graph, GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import EXACT, FLOAT32, FLOAT64
from bounds.ops.base import AffineMap, conversion_error
from bounds.ops.conv import conv
from bounds.ops.table import AFFINE, bind
from bounds.plan import NONLINEAR
from bounds.shapes import infer_shape

Case = tuple[Op, list[tuple[int, ...]], dict[str, Any], tuple[int, ...] | None]


def whole(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    """Small integers, about a fifth of them zero."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)


def convolution(
    seed: int,
    x: tuple[int, int, int, int],
    out: int,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    extra: tuple[int, int] | None = None,
) -> Case:
    """CONV, or CONV_TRANSPOSE where ``extra`` (output padding) is given."""
    params: dict[str, Any] = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    params["bias"] = whole(seed + 1, out)
    if extra is None:
        params["weight"] = whole(seed, out, x[1] // groups, *kernel)
        return Op.CONV, [x], params, None
    params["weight"] = whole(seed, x[1], out // groups, *kernel)
    return Op.CONV_TRANSPOSE, [x], params | {"output_padding": extra}, None


CASES: dict[str, Case] = {
    "linear": (Op.LINEAR, [(1, 4)], {"weight": whole(1, 3, 4), "bias": whole(2, 3)}, None),
    "linear-no-bias": (Op.LINEAR, [(1, 4)], {"weight": whole(1, 3, 4), "bias": np.zeros(3)}, None),
    "linear-stacked": (Op.LINEAR, [(2, 3, 4)], {"weight": whole(3, 2, 4), "bias": whole(4, 2)}, None),
    "linear-vector": (Op.LINEAR, [(3,)], {"weight": whole(3, 1, 3), "bias": whole(4, 1)}, None),
    "conv": convolution(5, (1, 2, 4, 5), 3, (2, 3)),
    "conv-batch": convolution(6, (2, 1, 3, 3), 2, (2, 2), pads=(1, 0, 0, 1)),
    "conv-stride": convolution(7, (1, 2, 5, 4), 2, (3, 2), strides=(2, 3), pads=(1, 1, 0, 2)),
    "conv-dilation": convolution(8, (1, 1, 6, 5), 2, (2, 2), dilations=(3, 2), pads=(0, 1, 1, 0)),
    "conv-groups": convolution(9, (1, 4, 3, 3), 6, (2, 2), groups=2),
    "conv-depthwise": convolution(10, (1, 3, 4, 3), 3, (3, 2), groups=3, strides=(2, 1), pads=(1, 1, 1, 1)),
    "conv-leftover": convolution(11, (1, 1, 6, 6), 1, (2, 2), strides=(3, 4)),
    "deconv": convolution(12, (1, 2, 3, 2), 3, (2, 3), extra=(0, 0)),
    "deconv-stride": convolution(
        13, (1, 2, 2, 3), 2, (3, 2), strides=(2, 3), pads=(1, 0, 0, 1), extra=(1, 2)
    ),
    "deconv-groups": convolution(14, (1, 4, 2, 2), 6, (2, 2), groups=2, dilations=(2, 1), extra=(0, 0)),
    "deconv-batch": convolution(15, (2, 1, 2, 3), 2, (3, 3), pads=(1, 1, 1, 1), extra=(0, 0)),
    "scale": (Op.SCALE, [(1, 2, 3)], {"scale": whole(16, 1, 2, 3), "shift": whole(17, 1, 2, 3)}, None),
    "scale-broadcast": (Op.SCALE, [(1, 2, 3)], {"scale": whole(18, 2, 1), "shift": whole(19, 1, 1, 3)}, None),
    "add": (Op.ADD, [(1, 4), (1, 4), (1, 4)], {"coefficients": np.array([2.0, -1.0, 3.0])}, None),
    "add-one": (Op.ADD, [(1, 4)], {"coefficients": np.array([-2.0])}, None),
    "take": (Op.TAKE, [(2, 3)], {"index": np.array([5, 0, 3]), "fill": np.zeros(3)}, (3,)),
    "take-repeats": (Op.TAKE, [(1, 3)], {"index": np.array([2, 2, 0, 2, 0, 1]), "fill": np.zeros(6)}, (2, 3)),
    "take-fill": (Op.TAKE, [(1, 3)], {"index": np.array([-1, 2, -1, 2]), "fill": whole(20, 4)}, (4,)),
    "take-only-fill": (Op.TAKE, [(1, 3)], {"index": np.array([-1, -1]), "fill": whole(21, 2)}, (2,)),
    "concat-first": (Op.CONCAT, [(2, 2), (3, 2)], {"axis": 0}, None),
    "concat-last": (Op.CONCAT, [(2, 2), (2, 1), (2, 3)], {"axis": 1}, None),
    "concat-negative": (Op.CONCAT, [(1, 2, 2), (1, 2, 1)], {"axis": 2}, None),
    "sum": (Op.SUM, [(2, 3, 2)], {"axes": (1,)}, None),
    "sum-two": (Op.SUM, [(2, 3, 2)], {"axes": (0, 2)}, None),
    "sum-all": (Op.SUM, [(2, 3)], {"axes": (0, 1)}, None),
}

# how a case is bound: by the table, or, for convolutions, without the shortcut to a matrix
Binding = Callable[[Any, Graph, NumpyKernels], AffineMap]
BINDINGS: Mapping[str, Binding] = {"table": bind, "patches": conv}
PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}
ALL = [
    (name, how, precision)
    for name, (op, *_) in CASES.items()
    for how in (("table", "patches") if op in (Op.CONV, Op.CONV_TRANSPOSE) else ("table",))
    for precision in PRECISIONS
]


def graph_of(case: Case) -> Graph:
    """The operator on inputs of its own."""
    op, shapes, params, shape = case
    b = GraphBuilder()
    inputs = [b.input(f"x{i}", s) for i, s in enumerate(shapes)]
    b.output("y", b.add(op, inputs, infer_shape(op, shapes, params, shape), params))
    return b.build()


@pytest.mark.parametrize("op", AFFINE)
def test_every_row_of_the_table_has_a_case(op: Op) -> None:
    assert op in {case[0] for case in CASES.values()}, f"add a case for {op.value}"


def test_primitives_are_affine_or_known() -> None:
    assert set(Op) == set(AFFINE) | set(NONLINEAR) | {Op.INPUT, Op.RESHAPE}


@pytest.mark.parametrize(("name", "how", "precision"), ALL)
class TestContract:
    """One operator in one precision."""

    @pytest.fixture
    def bound(self, name: str, how: str, precision: str) -> tuple[AffineMap, Any, Any]:
        """The map, its true matrices and its true bias."""
        graph = graph_of(CASES[name])
        node = graph.nodes[-1]
        matrices, bias = matrix_of(graph, node)
        return BINDINGS[how](node, graph, NumpyKernels(PRECISIONS[precision])), matrices, bias

    def test_sizes(self, bound: Any) -> None:
        map_, matrices, bias = bound
        assert map_.size == len(bias)
        assert map_.sizes == tuple(w.shape[1] for w in matrices)
        assert map_.weight_error == 0

    def test_columns(self, bound: Any) -> None:
        """``apply`` at unit vectors gives the columns of W, ``apply_abs`` those of |W|."""
        map_, matrices, _ = bound
        for k, w in enumerate(matrices):
            xs = [map_.kernels.zeros(w.shape[1], n) for n in map_.sizes]
            xs[k] = map_.kernels.array(np.eye(w.shape[1]))
            assert (map_.apply(xs) == w.T).all()
            assert (map_.apply_abs(xs) == abs(w).T).all()

    def test_rows(self, bound: Any) -> None:
        """``adjoint`` at unit rows and ``rows`` give the rows of W."""
        map_, matrices, bias = bound
        unit = map_.adjoint(map_.kernels.array(np.eye(map_.size)))
        index = np.array([len(bias) - 1, 0, 0])
        picked = map_.rows(index)
        for w, a, r in zip(matrices, unit, picked, strict=True):
            assert (a == w).all()
            assert (r == w[index]).all()

    def test_adjoint_identity(self, bound: Any) -> None:
        """``<a, W x> = <a W, x>`` exactly on integers, several rows at a time."""
        map_, _, _ = bound
        xs = [map_.kernels.array(whole(31 + k, 3, n)) for k, n in enumerate(map_.sizes)]
        a = map_.kernels.array(whole(41, 3, map_.size))
        left = (a * map_.apply(xs)).sum(axis=1)
        right = sum((p * x).sum(axis=1) for p, x in zip(map_.adjoint(a), xs, strict=True))
        assert (left == right).all()

    def test_bias(self, bound: Any) -> None:
        map_, _, bias = bound
        if map_.bias is None:
            assert not bias.any()
        else:
            assert (map_.bias == bias).all()
            assert (map_.bias_abs == abs(bias)).all()

    def test_terms(self, bound: Any) -> None:
        """No output sums more products, and no pulled-back row more contributions, than ``terms``."""
        map_, matrices, _ = bound
        together = np.concatenate(matrices, axis=1) != 0
        longest = int(together.sum(axis=1).max(initial=0))
        if len(matrices) == 1:
            longest = max(longest, int(together.sum(axis=0).max(initial=0)))
        assert map_.terms >= longest

    def test_restricted(self, bound: Any) -> None:
        """A part of the map computes those elements, from what it says it reads and nothing else."""
        map_, matrices, bias = bound
        for seed in range(4):
            rng = np.random.default_rng(seed)
            wanted = np.flatnonzero(rng.random(map_.size) < (0.2, 0.5)[seed % 2])
            if not len(wanted):
                continue
            index = map_.closure(wanted)
            assert set(wanted) <= set(index) and (np.diff(index) > 0).all()
            part, reads = map_.restricted(index)
            assert part.size == len(index) and part.sizes == tuple(len(r) for r in reads)
            assert part.terms >= 1 and part.weight_error == map_.weight_error
            for k, (w, read) in enumerate(zip(matrices, reads, strict=True)):
                others = np.setdiff1d(np.arange(w.shape[1]), read)
                assert not (w[np.ix_(index, others)] != 0).any()
                xs = [part.kernels.zeros(len(read), n) for n in part.sizes]
                xs[k] = part.kernels.array(np.eye(len(read)))
                assert (part.apply(xs) == w[np.ix_(index, read)].T).all()
                assert (part.apply_abs(xs) == abs(w[np.ix_(index, read)]).T).all()
            rows = part.adjoint(part.kernels.array(np.eye(part.size)))
            some = part.rows(np.array([0, part.size - 1]))
            for w, a, r, read in zip(matrices, rows, some, reads, strict=True):
                assert (a == w[np.ix_(index, read)]).all()
                assert (r == w[np.ix_(index[[0, -1]], read)]).all()
            held = np.zeros(part.size) if part.bias is None else part.bias
            assert (held == bias[index]).all()

    def test_agrees_with_evaluation(self, bound: Any, name: str) -> None:
        """``W x + b`` is what the graph computes, many points at once."""
        map_, _, bias = bound
        graph = graph_of(CASES[name])
        x = whole(51, 4, graph.input_size)
        truth = evaluate(graph, exactly(x))
        starts = np.cumsum([0, *map_.sizes])
        xs = [map_.kernels.array(x[:, s:e]) for s, e in itertools.pairwise(starts)]
        assert (map_.apply(xs) + map_.kernels.array(bias.astype(np.float64)) == truth).all()


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-40, 1e-46, 3.1e-45, 1e39, 2.0**-149, 16777217.0, 0.0, -1e-44])
def test_conversion_error_covers_underflow(value: float) -> None:
    """``|true - stored| <= e |stored|``, also where the stored number is subnormal, 0 or infinite."""
    with np.errstate(over="ignore"):
        stored = float(np.float32(value))
    e = conversion_error(np.array([1.0, value]), NumpyKernels(FLOAT32))
    if e == np.inf:
        assert stored in (0.0, np.inf)
    else:
        assert abs(Fraction(value) - Fraction(stored)) <= Fraction(e) * abs(Fraction(stored))
    assert conversion_error(np.array([value]), NumpyKernels(FLOAT64)) == 0


def test_evaluation_is_exact_for_plain_sequences() -> None:
    """Coefficients given as a list are as exact as an array."""
    b = GraphBuilder()
    x = b.input("x", (1,))
    b.output("y", b.add(Op.ADD, (x, x), (1,), {"coefficients": [0.1, 0.25]}))
    third = exactly(np.array([[0.0]]))
    third[0, 0] = Fraction(1, 3)
    assert evaluate(b.build(), third)[0, 0] == (Fraction(0.1) + Fraction(1, 4)) / 3
