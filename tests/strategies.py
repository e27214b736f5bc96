"""Random networks over the closed primitives, input boxes and objectives.

Hypothesis draws the *structure* (which primitives in which order, scales, kinds of boxes), so failures
shrink; the numbers come from a generator seeded by a drawn integer. Everything is small enough to be
evaluated in exact rationals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from bounds.domain import Objectives
from bounds.expression import Expr, Fn, X, call, const
from bounds.graph import Array, Graph, GraphBuilder, Op
from bounds.shapes import infer_shape
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row

# names of the scales of stored numbers; all but the last two are float32 numbers, as in a float32 model
SCALES = ("ordinary", "dyadic", "huge", "tiny", "subnormal", "float64", "tiny64")
TAME = ("ordinary", "dyadic")
MOST = 8  # elements of one value, so that exact evaluation stays cheap

RATIONAL_FUNCTIONS: Mapping[str, Expr] = {
    "square": X**2,
    "cube": X**3,
    "clip": call(Fn.MIN, call(Fn.MAX, X, const(-1.0)), const(1.5)),
    "floor": call(Fn.FLOOR, X),
    "softsign": X / (1 + call(Fn.ABS, X)),
    "hardswish": X * call(Fn.MIN, call(Fn.MAX, X + 3, const(0.0)), const(6.0)) / 6,
}
SMOOTH_FUNCTIONS: Mapping[str, Expr] = {
    "sigmoid": call(Fn.SIGMOID, X),
    "tanh": call(Fn.TANH, X),
    "gelu": 0.5 * X * (1 + call(Fn.ERF, X / call(Fn.SQRT, const(2.0)))),
    "silu": X * call(Fn.SIGMOID, X),
    "exp": call(Fn.EXP, X * 0.5),
    "sin": call(Fn.SIN, X),
    "softplus": call(Fn.SOFTPLUS, X),
}
# undefined, infinite or overflowing in places: bounds must then be infinite
WILD_FUNCTIONS: Mapping[str, Expr] = {
    "inverse": 1 / X,
    "exp-exp": call(Fn.EXP, call(Fn.EXP, X)),
    "root": call(Fn.SQRT, X),
}


def examples(count: int) -> settings:
    """``count`` examples, and as many times more as the profile asks for above the usual hundred."""
    return settings(max_examples=count * max(1, settings.default.max_examples // 100))


def numbers(rng: np.random.Generator, shape: Sequence[int], scale: str) -> Array:
    """Stored numbers (as float64) at one of the :data:`SCALES`, sometimes with exact zeros."""
    raw = rng.standard_normal(tuple(shape)) * (rng.random(tuple(shape)) < 0.85)
    if scale == "dyadic":
        return rng.integers(-6, 7, tuple(shape)) / 4
    if scale in ("float64", "tiny64"):
        return raw * (1.0 if scale == "float64" else 1e-43)
    factor = {"ordinary": 1.0, "huge": 1e30, "tiny": 1e-30, "subnormal": 1e-40}[scale]
    return (raw * factor).astype(np.float32).astype(np.float64)


@dataclass
class Sketch:
    """A network under construction: ``pool`` holds nodes of shape ``(1, n)`` to build on."""

    rng: np.random.Generator
    scale: str
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    pool: list[int] = field(default_factory=list)

    def put(self, op: Op, inputs: Sequence[int], shape: Sequence[int] | None = None, **more: Any) -> int:
        """Adds a node with inferred shape."""
        params = more.pop("params", {})
        shapes = [self.builder.nodes[i].shape for i in inputs]
        return self.builder.add(op, inputs, infer_shape(op, shapes, params, shape), params, **more)

    def numbers(self, *shape: int) -> Array:
        """Stored numbers of the network's scale."""
        return numbers(self.rng, shape, self.scale)

    def size(self, node: int) -> int:
        """Elements of a node's value."""
        return self.builder.nodes[node].size

    def pick(self) -> int:
        """A node to build on, mostly the newest."""
        return self.pool[-1] if self.rng.random() < 0.7 else int(self.rng.choice(self.pool))

    def linear(self, node: int, out: int) -> int:
        """A dense layer; ``n`` products and the bias are ``n + 1`` roundings."""
        n = self.size(node)
        params = {"weight": self.numbers(out, n), "bias": self.numbers(out)}
        return self.put(Op.LINEAR, (node,), params=params, roundings=n + 1)

    def gather(self, node: int, size: int, *, fill: bool = False) -> int:
        """Random elements (repeats allowed) as a vector."""
        index = self.rng.integers(-1 if fill else 0, self.size(node), size)
        params = {"index": index, "fill": self.numbers(size)}
        return self.put(Op.TAKE, (node,), (1, size), params=params)

    def exact(self, node: int, scale: float, shift: Any) -> int:
        """A synthetic step of a lowering: no rounding in the original model."""
        shift = np.broadcast_to(np.asarray(shift, dtype=np.float64), (1, self.size(node)))
        params = {"scale": np.array(scale), "shift": np.array(shift)}
        return self.put(Op.SCALE, (node,), params=params)

    def sum(self, nodes: Sequence[int], coefficients: Sequence[float], **more: Any) -> int:
        """An ADD node."""
        return self.put(
            Op.ADD, nodes, params={"coefficients": np.asarray(coefficients, dtype=np.float64)}, **more
        )


def _linear(s: Sketch) -> int:
    return s.linear(s.pick(), int(s.rng.integers(1, 6)))


def _relu(s: Sketch) -> int:
    return s.put(Op.RELU, (s.pick(),))


def _dense_relu(s: Sketch) -> int:
    return s.put(Op.RELU, (s.linear(s.pick(), int(s.rng.integers(2, 6))),))


def _alike(s: Sketch) -> tuple[int, int]:
    """Two nodes of one size (the second a dense layer where the pool has none)."""
    a, b = s.pick(), int(s.rng.choice(s.pool))
    return a, b if s.size(a) == s.size(b) else s.linear(b, s.size(a))


def _add(s: Sketch) -> int:
    a, b = _alike(s)
    c = s.numbers(2) if s.rng.random() < 0.5 else s.rng.choice([-1.0, 1.0], 2)
    return s.sum((a, b), [float(v) for v in c], roundings=4)


def _residual(s: Sketch) -> int:
    x = s.pick()
    inner = s.put(Op.RELU, (s.linear(x, int(s.rng.integers(2, 5))),))
    return s.sum((s.linear(inner, s.size(x)), x), [1.0, 1.0], roundings=2)


def _concat(s: Sketch) -> int:
    a, b = s.pick(), int(s.rng.choice(s.pool))
    if s.size(a) + s.size(b) > MOST:
        a, b = s.gather(a, 3), s.gather(b, 2)
    if s.rng.random() < 0.5:
        return s.put(Op.CONCAT, (a, b), params={"axis": 1})
    # along the leading axis of matrices, so that elements interleave
    n = min(s.size(a), s.size(b), 4)
    columns = [s.put(Op.RESHAPE, (s.gather(v, n),), (n, 1)) for v in (a, b)]
    return s.put(Op.RESHAPE, (s.put(Op.CONCAT, columns, params={"axis": 1}),), (1, 2 * n))


def _take(s: Sketch) -> int:
    return s.gather(s.pick(), int(s.rng.integers(1, 6)), fill=True)


def _scale(s: Sketch) -> int:
    x = s.pick()
    shape = (1, s.size(x)) if s.rng.random() < 0.5 else (1, 1)
    params = {"scale": s.numbers(*shape), "shift": s.numbers(*shape)}
    return s.put(Op.SCALE, (x,), params=params, roundings=2)


def _sum(s: Sketch) -> int:
    x = s.gather(s.pick(), 6)
    shaped = s.put(Op.RESHAPE, (x,), (1, 2, 3))
    axis = int(s.rng.integers(1, 3))
    total = s.put(Op.SUM, (shaped,), params={"axes": (axis,)}, roundings=3)
    return s.put(Op.RESHAPE, (total,), (1, s.size(total)))


def _image(s: Sketch) -> int:
    c, h, w = [(1, 3, 3), (2, 2, 2), (2, 1, 4), (2, 3, 2)][int(s.rng.integers(4))]
    return s.put(Op.RESHAPE, (s.gather(s.pick(), c * h * w),), (1, c, h, w))


def _window(s: Sketch, image: int) -> dict[str, Any]:
    _, c, h, w = s.builder.nodes[image].shape
    pads = tuple(int(v) for v in s.rng.integers(0, 2, 4))
    kernel = [int(s.rng.integers(1, min(3, size) + 1)) for size in (h, w)]
    dilations = tuple(
        int(s.rng.integers(1, 3)) if (k - 1) * 2 < size else 1 for k, size in zip(kernel, (h, w), strict=True)
    )
    strides = tuple(int(v) for v in s.rng.integers(1, 3, 2))
    groups = int(s.rng.choice([g for g in (1, 2) if c % g == 0]))
    return {"kernel": kernel, "pads": pads, "dilations": dilations, "strides": strides, "groups": groups}


def _flat(s: Sketch, node: int) -> int:
    size = s.size(node)
    flat = s.put(Op.RESHAPE, (node,), (1, size))
    return flat if size <= MOST else s.gather(flat, MOST)


def _conv(s: Sketch) -> int:
    x = _image(s)
    window = _window(s, x)
    kernel, groups, channels = window.pop("kernel"), window["groups"], s.builder.nodes[x].shape[1]
    weight = s.numbers(2, channels // groups, *kernel)
    params = {**window, "weight": weight, "bias": s.numbers(2)}
    return _flat(s, s.put(Op.CONV, (x,), params=params, roundings=weight[0].size + 1))


def _conv_transpose(s: Sketch) -> int:
    x = _image(s)
    window = _window(s, x)
    kernel, groups, channels = window.pop("kernel"), window["groups"], s.builder.nodes[x].shape[1]
    extra = tuple(int(s.rng.integers(0, stride)) for stride in window["strides"])
    weight = s.numbers(channels, 2 // groups, *kernel)
    params = {**window, "weight": weight, "bias": s.numbers(2), "output_padding": extra}
    try:
        node = s.put(Op.CONV_TRANSPOSE, (x,), params=params, roundings=weight.size + 1)
    except ValueError:  # the padding eats everything
        params["pads"] = (0, 0, 0, 0)
        node = s.put(Op.CONV_TRANSPOSE, (x,), params=params, roundings=weight.size + 1)
    return _flat(s, node)


def larger(s: Sketch, a: int, b: int) -> int:
    """``max(a, b) = b + relu(a - b)``, exact steps."""
    return s.sum((b, s.put(Op.RELU, (s.sum((a, b), (1.0, -1.0)),))), (1.0, 1.0))


def _max(s: Sketch) -> int:
    return larger(s, *_alike(s))


def _abs(s: Sketch) -> int:
    x = s.pick()
    return s.sum((s.put(Op.RELU, (x,)), x), (2.0, -1.0))


def _clip(s: Sketch) -> int:
    x = s.pick()
    lo, hi = np.sort(s.numbers(2))
    rise = s.put(Op.RELU, (s.exact(x, 1.0, -lo),))
    cut = s.put(Op.RELU, (s.exact(x, 1.0, -hi),))
    return s.exact(s.sum((rise, cut), (1.0, -1.0)), 1.0, lo)


def _leaky(s: Sketch) -> int:
    x = s.pick()
    return s.sum((x, s.put(Op.RELU, (x,))), (0.25, 0.75), roundings=1, source="leaky")


def _max_pool(s: Sketch) -> int:
    x = s.pick()
    out = s.gather(x, 3)
    for _ in range(int(s.rng.integers(1, 3))):
        out = larger(s, out, s.gather(x, 3))
    return out


MOVES: Mapping[str, Callable[[Sketch], int]] = {
    "dense_relu": _dense_relu,
    "linear": _linear,
    "relu": _relu,
    "add": _add,
    "residual": _residual,
    "concat": _concat,
    "take": _take,
    "scale": _scale,
    "sum": _sum,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max": _max,
    "abs": _abs,
    "clip": _clip,
    "leaky": _leaky,
    "max_pool": _max_pool,
}


def build(seed: int, moves: Sequence[str], *, scale: str = "ordinary", inputs: Sequence[int] = (2,)) -> Graph:
    """The network that makes these moves; ``inputs`` are the sizes of its input ports."""
    s = Sketch(np.random.default_rng(seed), scale)
    s.pool = [s.builder.input(f"x{i}", (1, n)) for i, n in enumerate(inputs)]
    if len(s.pool) > 1:
        s.pool.append(s.put(Op.CONCAT, tuple(s.pool), params={"axis": 1}))
    for move in moves:
        s.pool.append((MOVES.get(move) or CURVED[move])(s))
    s.builder.output("y", s.pool[-1])
    if s.rng.random() < 0.3:  # a second output, now and then the same value in another shape
        other = int(s.rng.choice(s.pool))
        s.builder.output("z", s.put(Op.RESHAPE, (other,), (s.size(other),)))
    return s.builder.build()


def _scalar(s: Sketch, functions: Mapping[str, Expr]) -> int:
    x = s.pick()
    chosen = list(functions.values())[int(s.rng.integers(len(functions)))]
    return s.put(Op.SCALAR, (x,), params={"function": chosen}, roundings=1)


def _product(s: Sketch) -> int:
    return s.put(Op.MUL, _alike(s), roundings=1)


# moves that are no part of the rectifier networks above; build() knows both kinds
CURVED: Mapping[str, Callable[[Sketch], int]] = {
    "rational": lambda s: _scalar(s, RATIONAL_FUNCTIONS),
    "smooth": lambda s: _scalar(s, SMOOTH_FUNCTIONS),
    "wild": lambda s: _scalar(s, WILD_FUNCTIONS),
    "product": _product,
}


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    moves: Sequence[str] = tuple(MOVES),
    most: int = 5,
    scales: Sequence[str] = SCALES,
    inputs: Sequence[tuple[int, ...]] = ((1,), (2,), (3,), (4,), (1, 1), (2, 1)),
) -> Graph:
    """Networks of up to ``most`` moves."""
    chosen = draw(st.lists(st.sampled_from(list(moves)), min_size=1, max_size=most))
    return build(
        draw(st.integers(0, 2**32 - 1)),
        chosen,
        scale=draw(st.sampled_from(list(scales))),
        inputs=draw(st.sampled_from(list(inputs))),
    )


@dataclass(frozen=True)
class Box:
    """Input boxes ``lo, hi: D d`` (float64)."""

    lo: Array
    hi: Array


def interval(rng: np.random.Generator, kind: str, scale: float) -> tuple[float, float]:
    """One side of a box."""
    a, b = (np.sort(rng.standard_normal(2)) * scale).tolist()
    if kind == "point":
        b = a
    elif kind == "float32-point":
        a = b = float(np.float32(a))
    elif kind == "left":  # touches 0 from the left: the breakpoint of a rectifier on this input
        a, b = -abs(a), -0.0
    elif kind == "right":
        a, b = 0.0, abs(b)
    elif kind == "zero":
        a = b = 0.0
    elif kind == "dyadic":
        a, b = sorted((rng.integers(-8, 9, 2) / 4).tolist())
    elif kind == "subnormal":
        a, b = -float(rng.integers(0, 4)) * 5e-324, float(rng.integers(0, 4)) * 1e-45
    return a, b


KINDS = ("wide", "dyadic", "left", "right", "point", "float32-point", "zero", "subnormal")


@st.composite
def boxes(
    draw: st.DrawFn, size: int, *, kinds: Sequence[str] = KINDS, most: int = 3, extreme: bool = True
) -> Box:
    """1 to ``most`` boxes over ``size`` inputs, sides of several kinds and scales."""
    count = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1.0, 1.0, 1e-3, 1e30, 1e-30] if extreme else [1.0, 1e-3, 10.0]))
    shapes = draw(st.lists(st.sampled_from(list(kinds)), min_size=size, max_size=size))
    sides = np.array([[interval(rng, kind, scale) for kind in shapes] for _ in range(count)])
    return Box(np.ascontiguousarray(sides[:, :, 0]), np.ascontiguousarray(sides[:, :, 1]))


_CONSTANTS = (Fraction(0), Fraction(1), Fraction(1, 10), Fraction(1, 3), Fraction(-7, 2), Fraction(10) ** -9)


def objectives(seed: int, graph: Graph, *, rows: int = 3, groups: int = 2, plain: bool = False) -> Objectives:
    """Random rows over outputs and inputs with constants that are no floats (unless ``plain``)."""
    rng = np.random.default_rng(seed)
    ends = sorted({rows, *(int(v) for v in rng.integers(1, rows + 1, groups - 1))})

    def coefficient() -> Fraction:
        kind = int(rng.integers(0, 2 if plain else 4))
        if kind < 2:
            return Fraction(int(rng.integers(-4, 5)), 2)
        if kind == 2:
            return _CONSTANTS[int(rng.integers(len(_CONSTANTS)))]
        return Fraction(float(rng.standard_normal()))

    def row() -> Row:
        outputs = {i: c for i in range(graph.output_size) if (c := coefficient()) and rng.random() < 0.7}
        inputs = {j: c for j in range(graph.input_size) if rng.random() < 0.3 and (c := coefficient())}
        return Row(outputs, inputs, coefficient(), bool(rng.random() < 0.3))

    starts = [0, *ends]
    disjuncts = tuple(tuple(row() for _ in range(e - s)) for s, e in itertools.pairwise(starts))
    nothing = (Fraction(0),) * graph.input_size
    return objectives_of(Case(nothing, nothing, disjuncts), graph.input_size, graph.output_size)
