"""Small models, a naive prover that shares nothing with the checker, and a certificate writer."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from verifier.check.cells import extent
from verifier.check.enclosure import INCREASING, ROUNDED
from verifier.check.functions import Function, Step
from verifier.check.importer import combine
from verifier.check.network import Kind, Network, Node
from verifier.check.state import Choices, Marks
from verifier.spec.model import Case, NetworkRef, Property, Row, Variable

Array = np.ndarray
KINDS = {"relus": Kind.RELU, "scalars": Kind.SCALAR, "products": Kind.PRODUCT}


# ------------------------------------------------------------------ models
def model(
    nodes: Sequence[Any],
    weights: Mapping[str, Any],
    shape: Sequence[int | str],
    out: Sequence[int | str] | None = None,
    *,
    opset: int = 13,
    inputs: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] = ("y",),
) -> bytes:
    """ONNX bytes with float32 input ``x`` and output ``y``."""
    ports = inputs or {"x": shape}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in ports.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, out) for n in outputs],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return proto.SerializeToString()


def dyadic(rng: np.random.Generator, *shape: int, bits: int = 3) -> Array:
    """Random multiples of 2^-bits in [-2, 2], so that exact arithmetic stays short."""
    top = 2 << bits
    return (rng.integers(-top, top + 1, shape) / 2**bits).astype(np.float32)


def dense(rng: np.random.Generator, sizes: Sequence[int], between: str = "Relu", **attributes: Any) -> bytes:
    nodes, weights, last = [], {}, "x"
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weights[f"w{k}"], weights[f"b{k}"] = dyadic(rng, n, m), dyadic(rng, m)
        end = k == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], ["y" if end else f"z{k}"]))
        if not end:
            nodes.append(helper.make_node(between, [f"z{k}"], [f"a{k}"], **attributes))
        last = f"a{k}"
    return model(nodes, weights, [1, sizes[0]])


def leaky(rng: np.random.Generator) -> bytes:
    return dense(rng, (2, 4, 3, 2), "LeakyRelu", alpha=0.25)


def clip(rng: np.random.Generator) -> bytes:
    w = {"w": dyadic(rng, 2, 3), "v": dyadic(rng, 3, 2), "lo": np.float32(-0.5), "hi": np.float32(1.0)}
    w["u"] = dyadic(rng, 3, 3)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Clip", ["z", "lo"], ["b"]),
        helper.make_node("MatMul", ["b", "u"], ["c"]),
        helper.make_node("Clip", ["c", "", "hi"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    return model(nodes, w, [1, 2])


def extrema(rng: np.random.Generator) -> bytes:
    w = {"w": dyadic(rng, 2, 3), "v": dyadic(rng, 2, 3), "c": dyadic(rng, 3), "o": dyadic(rng, 3, 2)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("MatMul", ["x", "v"], ["q"]),
        helper.make_node("Max", ["p", "q", "c"], ["m"]),
        helper.make_node("Min", ["m", "p"], ["n"]),
        helper.make_node("Abs", ["n"], ["a"]),
        helper.make_node("MatMul", ["a", "o"], ["y"]),
    ]
    return model(nodes, w, [1, 2])


def residual(rng: np.random.Generator) -> bytes:
    w = {"w": dyadic(rng, 2, 3), "v": dyadic(rng, 3, 3), "b": dyadic(rng, 3), "o": dyadic(rng, 3, 2)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Relu", ["p"], ["a"]),
        helper.make_node("Gemm", ["a", "v", "b"], ["q"]),
        helper.make_node("Relu", ["q"], ["c"]),
        helper.make_node("Add", ["c", "p"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("MatMul", ["t", "o"], ["y"]),
    ]
    return model(nodes, w, [1, 2])


def conv(rng: np.random.Generator) -> bytes:
    w = {"w": dyadic(rng, 2, 1, 2, 2), "b": dyadic(rng, 2), "v": dyadic(rng, 2 * 2 * 2, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=[0, 1, 0, 1], strides=[1, 2]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    return model(nodes, w, [1, 1, 3, 2])


def maxpool(rng: np.random.Generator) -> bytes:
    w = {"w": dyadic(rng, 2, 1, 1, 2), "v": dyadic(rng, 4, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["z"]),
        helper.make_node("MaxPool", ["z"], ["a"], kernel_shape=[2, 1], pads=[0, 0, 1, 0], strides=[2, 1]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    return model(nodes, w, [1, 1, 3, 2])


def relu_net(rng: np.random.Generator) -> bytes:
    return dense(rng, (2, 4, 3, 2))


FAMILIES: Mapping[str, tuple[Callable[[np.random.Generator], bytes], int]] = {
    "dense": (relu_net, 2),
    "leaky": (leaky, 2),
    "clip": (clip, 2),
    "extrema": (extrema, 2),
    "residual": (residual, 2),
    "conv": (conv, 6),
    "maxpool": (maxpool, 6),
}


def curved(rng: np.random.Generator) -> bytes:
    """Rational functions: a square, a two-sided clip, a staircase, a quotient; and a product."""
    w = {"w": dyadic(rng, 2, 4), "v": dyadic(rng, 2, 2), "lo": np.float32(-0.5), "hi": np.float32(1.0)}
    w |= {"two": np.int64([1, 1, 1, 1]), "one": np.float32(1), "o": dyadic(rng, 2, 2)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Split", ["z", "two"], ["a", "b", "c", "d"], axis=1),
        helper.make_node("Mul", ["a", "a"], ["e"]),
        helper.make_node("Clip", ["b", "lo", "hi"], ["f"]),
        helper.make_node("Floor", ["c"], ["g"]),
        helper.make_node("Abs", ["d"], ["h"]),
        helper.make_node("Add", ["h", "one"], ["i"]),
        helper.make_node("Div", ["d", "i"], ["j"]),
        helper.make_node("Concat", ["e", "f"], ["k"], axis=1),
        helper.make_node("Concat", ["g", "j"], ["l"], axis=1),
        helper.make_node("Mul", ["k", "l"], ["m"]),
        helper.make_node("MatMul", ["m", "o"], ["y"]),
    ]
    return model(nodes, w, [1, 2])


def cubic(rng: np.random.Generator) -> bytes:
    """Two layers of polynomials, and a product of a value with what came of it."""
    w = {"w": dyadic(rng, 2, 3), "v": dyadic(rng, 3, 3, bits=1) / 4, "o": dyadic(rng, 3, 2)}
    w |= {"three": np.float32(3)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Pow", ["z", "three"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["b"]),
        helper.make_node("Mul", ["b", "z"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Sub", ["d", "a"], ["e"]),
        helper.make_node("MatMul", ["e", "o"], ["y"]),
    ]
    return model(nodes, w, [1, 2])


CURVED: Mapping[str, tuple[Callable[[np.random.Generator], bytes], int]] = {
    "curved": (curved, 2),
    "cubic": (cubic, 2),
}
EVERY = {**FAMILIES, **CURVED}


def choices(network: Network, rng: np.random.Generator, rows: int, *, bits: bool = False) -> Choices:
    """Random choices."""
    n, m, p = (network.elements(kind) for kind in KINDS.values())
    slopes = rng.integers(0, 2, (rows, n)) * 128 if bits else rng.integers(0, 129, (rows, n))
    lines = rng.standard_normal((rows, 2 * m)).astype(np.float32)
    return Choices(slopes.astype(np.uint8), lines, rng.integers(0, 129, (rows, 2 * p)).astype(np.uint8))


def everything(network: Network, boxes: int) -> Marks:
    """Everything is bounded backwards."""
    n, m, p = (network.elements(kind) for kind in KINDS.values())
    return Marks(*(np.ones((boxes, k), np.uint8) for k in (n, m, 2 * p)))


def value_at(function: Function, x: Fraction) -> Fraction:
    """A rational function at a point, exactly."""
    known: list[Fraction] = []
    for step in function:
        a = [known[k] for k in step.args]
        known.append(x if step.fn == "x" else Fraction(EXACT[step.fn](step.value, *a)))
    return known[-1]


def plain_value(function: Function, x: Array) -> Array:
    """Rounded evaluation in the precision of ``x``."""
    known: list[Array] = []
    for step in function:
        a = [known[k] for k in step.args]
        known.append(x if step.fn == "x" else _plain_step(step, a, x))
    return known[-1]


def _plain_step(step: Step, a: list[Array], like: Array) -> Array:
    if step.fn == "const":
        return np.full(like.shape, step.value, like.dtype)
    if step.fn == "pow":
        return np.power(a[0], like.dtype.type(step.value))
    if step.fn in PLAIN:
        return np.asarray(PLAIN[step.fn](*a)).astype(like.dtype)
    if step.fn in ROUNDED:
        return np.asarray(ROUNDED[step.fn][0](a[0])).astype(like.dtype)
    return np.asarray(INCREASING[step.fn][0](a[0])).astype(like.dtype)


PLAIN: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "relu": lambda a: np.maximum(a, 0),
    "max": np.maximum,
    "min": np.minimum,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "cosh": np.cosh,
    "acos": np.arccos,
    "zero": lambda a: a == 0,
    "where": lambda c, a, b: np.where(c == 1, a, b),
}
EXACT: Mapping[str, Callable[..., Any]] = {
    "const": lambda value: value,
    "+": lambda _, a, b: a + b,
    "-": lambda _, a, b: a - b,
    "*": lambda _, a, b: a * b,
    "/": lambda _, a, b: a / b,
    "neg": lambda _, a: -a,
    "abs": lambda _, a: abs(a),
    "relu": lambda _, a: max(a, 0),
    "max": lambda _, a, b: max(a, b),
    "min": lambda _, a, b: min(a, b),
    "pow": lambda value, a: a ** int(value),
    "sign": lambda _, a: (a > 0) - (a < 0),
    "floor": lambda _, a: math.floor(a),
    "ceil": lambda _, a: math.ceil(a),
    "trunc": lambda _, a: math.trunc(a),
    "round": lambda _, a: round(a),
    "step": lambda _, a: a >= 0,
    "strict": lambda _, a: a > 0,
    "zero": lambda _, a: a == 0,
    "where": lambda _, c, a, b: a if c == 1 else b,
}


def make_property(
    inputs: int, outputs: int, cases: Sequence[Case], *, networks: Sequence[str] = ("",)
) -> Property:
    variables = tuple(
        v
        for n in networks
        for v in (
            Variable(f"X{n}", "input", (inputs,), network=n),
            Variable(f"Y{n}", "output", (outputs,), network=n),
        )
    )
    return Property(variables, tuple(cases), tuple(NetworkRef(n) for n in networks), sha256="ab" * 32)


def box_case(low: Sequence[Any], high: Sequence[Any], *disjuncts: Sequence[Row]) -> Case:
    return Case(
        tuple(Fraction(v) for v in low), tuple(Fraction(v) for v in high), tuple(tuple(d) for d in disjuncts)
    )


def row(
    outputs: Mapping[int, Any], constant: Any = 0, inputs: Mapping[int, Any] | None = None, *, strict=False
) -> Row:
    return Row(
        {i: Fraction(c) for i, c in outputs.items()},
        {i: Fraction(c) for i, c in (inputs or {}).items()},
        Fraction(constant),
        strict,
    )


def of_floats(node: Node, x: Array, y: Any = None) -> Array:
    """A nonlinear node at a point: the middle of the checker's enclosures there."""
    if node.kind is Kind.RELU:
        return np.maximum(x, 0)
    if node.kind is Kind.PRODUCT:
        return x * y
    low, high = extent(node.function, x, x, exact=False)
    return (low + high) / 2


def of_element(node: Node, x: Fraction, y: Fraction = Fraction(0)) -> Fraction:
    """One element of a nonlinear node, exactly."""
    if node.kind is Kind.RELU:
        return max(x, Fraction(0))
    return x * y if node.kind is Kind.PRODUCT else value_at(node.function, x)


# ------------------------------------------------------------------ dense matrices of the normal form
class Plain:
    """The normal form as explicit matrices: node -> (source -> matrix, bias) or the relu's source."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.maps: list[dict[int, Array]] = []
        self.bias: list[Array] = []
        for node in network.nodes:
            found: dict[int, Array] = {}
            for source, chain in node.terms:
                matrix = np.eye(network.nodes[source].size)
                for m in chain:
                    matrix = np.stack([m.forward(column) for column in matrix])
                found[source] = found.get(source, 0) + matrix.T
            self.maps.append(found)
            self.bias.append(np.zeros(node.size) if node.bias is None else node.bias)

    def exact(self, x: Sequence[Fraction]) -> list[Fraction]:
        """The outputs as rationals; the network must have no inexact weights."""
        return self.everything(x)[self.network.output]

    def everything(self, x: Sequence[Fraction]) -> list[list[Fraction]]:
        """The values of all nodes."""
        values: list[list[Fraction]] = [list(x)]
        for node, maps, bias in zip(self.network.nodes[1:], self.maps[1:], self.bias[1:], strict=True):
            assert node.error == 0
            before = [values[k] for k in node.operands]
            if node.kind is not Kind.AFFINE:
                pairs = zip(*before, strict=True)
                values.append([of_element(node, *v) for v in pairs])
                continue
            out = [Fraction(float(b)) for b in bias]
            for source, matrix in maps.items():
                for i, j in zip(*np.nonzero(matrix), strict=True):
                    out[i] += Fraction(float(matrix[i, j])) * values[source][j]
            values.append(out)
        return values

    def rounded(self, x: Array) -> list[Array]:
        """The values (points, n) of all nodes, in the precision of the points (points, inputs)."""
        values, dtype = [x], x.dtype
        for node, maps, bias in zip(self.network.nodes[1:], self.maps[1:], self.bias[1:], strict=True):
            before = [values[k] for k in node.operands]
            if node.kind is Kind.RELU:
                values.append(np.maximum(before[0], 0))
            elif node.kind is Kind.SCALAR:
                values.append(plain_value(node.function, before[0]))
            elif node.kind is Kind.PRODUCT:
                values.append(before[0] * before[1])
            else:
                parts = [values[source] @ matrix.T.astype(dtype) for source, matrix in maps.items()]
                values.append(sum(parts, np.zeros((len(x), node.size), dtype)) + bias.astype(dtype))
        return values


# ------------------------------------------------------------------ the naive prover
class Prover:
    """Splits the widest dimension; bounds one box at a time with matrices and plain floats."""

    def __init__(self, data: bytes, prop: Property) -> None:
        self.prop = prop
        self.network = combine({prop.networks[0].name: data}, prop)
        self.plain = Plain(self.network)
        self.evidence: list[tuple[int, int, int]] = []
        self.slopes: dict[int, Array] = {}
        self.tree: list[list[float]] = []
        self.boxes: dict[int, tuple[Array, Array]] = {}

    def layers(self, low: Array, high: Array) -> tuple[list[Array], list[Array], list[Array]]:
        """Bounds of all nodes by interval arithmetic, then backwards for rectifiers' inputs."""
        lows, highs, slopes = [low], [high], [np.zeros(0)] * len(self.network.nodes)
        wanted = {k for node in self.network.nodes for k in node.operands}
        for i, node in enumerate(self.network.nodes[1:], 1):
            if node.kind is Kind.RELU:
                l, h = lows[node.operands[0]], highs[node.operands[0]]
                slopes[i] = np.where(h > -l, 1.0, 0.0)
                lows.append(np.maximum(l, 0))
                highs.append(np.maximum(h, 0))
                continue
            l = h = self.plain.bias[i]
            for s, w in self.plain.maps[i].items():
                p, q = np.maximum(w, 0), np.minimum(w, 0)
                l, h = l + p @ lows[s] + q @ highs[s], h + p @ highs[s] + q @ lows[s]
            lows.append(l)
            highs.append(h)
            if i in wanted:
                for j in np.flatnonzero((l < 0) & (h > 0)):
                    unit = np.zeros(len(l))
                    unit[j] = 1
                    l[j] = max(l[j], self.back({i: unit}, lows, highs, slopes))
                    h[j] = min(h[j], -self.back({i: -unit}, lows, highs, slopes))
        return lows, highs, slopes

    def back(
        self,
        parts: dict[int, Array],
        lows: list[Array],
        highs: list[Array],
        slopes: list[Array],
        c: float = 0.0,
    ) -> float:
        parts = dict(parts)
        for i in range(max(parts), 0, -1):
            if i not in parts:
                continue
            a, node = parts.pop(i), self.network.nodes[i]
            if node.kind is Kind.RELU:
                l, h = lows[node.operands[0]], highs[node.operands[0]]
                amb = (l < 0) & (h > 0)
                gap = np.where(amb, h - l, 1)
                up = np.where(amb, h / gap, l >= 0)
                lo = np.where(amb, slopes[i], l >= 0)
                c += float(np.sum(np.where(amb, np.minimum(a, 0) * -up * l, 0)))
                parts[node.operands[0]] = (
                    parts.get(node.operands[0], 0) + np.maximum(a, 0) * lo + np.minimum(a, 0) * up
                )
                continue
            c += float(a @ self.plain.bias[i])
            for s, w in self.plain.maps[i].items():
                parts[s] = parts.get(s, 0) + a @ w
        if 0 not in parts:
            return c
        a = parts[0]
        return c + float(np.maximum(a, 0) @ lows[0] + np.minimum(a, 0) @ highs[0])

    def settle(self, node: int, case: int, low: Array, high: Array, margin: float) -> list[int]:
        """Evidence for the disjuncts that this box refutes; returns those it does not."""
        lows, highs, slopes = self.layers(low, high)
        flat = np.concatenate([np.zeros(0), *(slopes[i] for i in self.network.of(Kind.RELU))])
        opened = []
        for d, rows in enumerate(self.prop.cases[case].disjuncts):
            for r, atom in enumerate(rows):
                parts = {self.network.output: np.zeros(self.network.nodes[self.network.output].size)}
                parts.setdefault(0, np.zeros(len(low)))
                for i, v in atom.outputs.items():
                    parts[self.network.output][i] += float(v)
                for i, v in atom.inputs.items():
                    parts[0][i] += float(v)
                bound = self.back(parts, lows, highs, slopes, float(atom.constant))
                if bound > margin or (atom.strict and bound >= margin):
                    self.evidence.append((node, d, r))
                    self.slopes[node] = flat
                    break
            else:
                opened.append(d)
        return opened

    def prove(self, *, margin: float = 1e-9, limit: int = 400) -> dict[str, Any] | None:
        """Arrays of a certificate, or None when the limit is reached."""
        todo = []
        for c, case in enumerate(self.prop.cases):
            self.tree.append([-1, 0.0, -1])
            low = np.array([float(v) for v in case.lower])
            high = np.array([float(v) for v in case.upper])
            if not case.empty:
                todo.append((c, c, low, high))
        for node, case, low, high in todo:
            if not self.settle(node, case, low, high, margin):
                continue
            if len(self.tree) > limit:
                return None
            self.evidence = [e for e in self.evidence if e[0] != node]
            dim = int(np.argmax(high - low))
            at, left = (low[dim] + high[dim]) / 2, len(self.tree)
            self.tree[node] = [dim, at, left]
            self.tree += [[-1, 0.0, -1], [-1, 0.0, -1]]
            one, two = high.copy(), low.copy()
            one[dim] = two[dim] = at
            todo += [(left, case, low, one), (left + 1, case, two, high)]
        return self.arrays()

    def arrays(self) -> dict[str, Any]:
        self.evidence.sort()
        n = self.network.elements(Kind.RELU)
        box = sorted({e[0] for e in self.evidence})
        bits = np.array([self.slopes[b] for b in box]).reshape(len(box), n).astype(np.uint8)
        slopes = np.array([self.slopes[e[0]] * 128 for e in self.evidence]).reshape(len(self.evidence), n)
        columns = np.array(self.evidence, np.int32).reshape(-1, 3).T
        tree = np.array(self.tree, object).reshape(-1, 3)
        arrays = {
            "node_dim": tree[:, 0].astype(np.int32),
            "node_at": tree[:, 1].astype(np.float64),
            "node_left": tree[:, 2].astype(np.int32),
            "ev_node": columns[0],
            "ev_disjunct": columns[1],
            "ev_row": columns[2],
            "ev_exact": np.zeros(len(self.evidence), np.uint8),
            "ev_slopes": slopes.astype(np.uint8),
            "box_node": np.array(box, np.int32),
            "box_slopes": np.packbits(bits, axis=1, bitorder="little"),
            **bare(len(self.evidence), len(box)),
            "box_refined": np.full((len(box), (self.network.elements(Kind.RELU) + 7) // 8), 255, np.uint8),
        }
        return upgraded(arrays)

    def document(self, data: bytes, **changes: Any) -> dict[str, Any]:
        return document(data, self.prop, self.network, **changes)


def bare(rows: int, boxes: int) -> dict[str, Any]:
    """The arrays about functions and products of a network that has none."""
    none = {"lines": np.float32, "mixes": np.uint8}
    return {
        **{f"ev_{k}": np.zeros((rows, 0), t) for k, t in none.items()},
        **{f"box_{k}": np.zeros((boxes, 0), t) for k, t in none.items()},
        **{f"box_refined_{k}": np.zeros((boxes, 0), np.uint8) for k in ("scalars", "products")},
    }


def upgraded(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays of version 2 as those of version 3 that say the same."""
    n, s, p = (arrays[f"ev_{name}"].shape[1] for name in ("slopes", "lines", "mixes"))
    return {
        **arrays,
        "ev_box": np.searchsorted(arrays["box_node"], arrays["ev_node"]).astype(np.int32),
        "row_box": np.zeros(0, np.int32),
        "row_operand": np.zeros(0, np.int32),
        "row_upper": np.zeros(0, np.uint8),
        "row_slopes": np.zeros((0, n), np.uint8),
        "row_lines": np.zeros((0, s), np.float32),
        "row_mixes": np.zeros((0, p), np.uint8),
        "beta_ev": np.zeros(0, np.int32),
        "beta_operand": np.zeros(0, np.int32),
        "beta": np.zeros(0),
    }


def document(data: bytes, prop: Property, network: Network, **changes: Any) -> dict[str, Any]:
    nodes = network.nodes
    return {
        "format": "surebound-certificate",
        "version": 3,
        "verdict": "unsat",
        "semantics": "real",
        "models": [{"name": "", "sha256": hashlib.sha256(data).hexdigest()}],
        "property": {"language": prop.language, "sha256": prop.sha256, "text": prop.text},
        **{
            key: [{"tensor": nodes[i].name, "size": nodes[i].size} for i in network.of(kind)]
            for key, kind in KINDS.items()
        },
        "producer": {"name": "surebound", "version": "0"},
        "root_precision": 64,
        "forward": False,
        **changes,
    }


def write(path: Path, doc: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """Writes the container; an array may also be given as bytes of an npy file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("certificate.json", json.dumps(doc, sort_keys=True))
        for name, value in arrays.items():
            if not isinstance(value, bytes):
                stream = io.BytesIO()
                np.save(stream, value, allow_pickle=True)
                value = stream.getvalue()
            archive.writestr(f"arrays/{name}.npy", value)
    return path


def refutable(data: bytes, size: int, rng: np.random.Generator, *, margin: Any = Fraction(1, 8)) -> Property:
    """A property over a dyadic box whose truth follows from sampling minus a margin; mostly provable."""
    low = dyadic(rng, size)
    high = low + dyadic(rng, size).__abs__() * np.float32(0.5)
    prop = make_property(size, 2, [box_case(low.tolist(), high.tolist(), [row({0: 1, 1: 1})])])
    plain = Plain(combine({"": data}, prop))
    points = [low + (high - low) * rng.integers(0, 5, size) / 4 for _ in range(60)] + [low, high]
    ys = [plain.exact([Fraction(float(v)) for v in p]) for p in points]
    first = min(y[0] + y[1] for y in ys)
    second = min(y[0] - 2 * y[1] for y in ys)
    cases = [
        box_case(
            low.tolist(),
            high.tolist(),
            [row({0: 1, 1: 1}, margin - first)],
            [row({0: -1000}), row({0: 1, 1: -2}, margin - second, strict=True)],
        )
    ]
    return make_property(size, 2, cases)
