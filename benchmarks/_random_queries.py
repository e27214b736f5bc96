"""Random tiny queries over many operators, and what brute force says about them.

Networks are rows of two to four values on which one random operator after another works. A property aims
near the extremes that sampling finds, on either side. Brute force is onnxruntime at thousands of points:
corners, random ones, and descent from the best. It proves that a violation exists, with a margin over
rounding; that none was found says only that ``sat`` would be a surprise, which its witness must then explain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
# a violation by less than this share of the values' size may be rounding
MARGIN = 1e-3


@dataclass
class Sketch:
    """A network under construction: ``at`` is a tensor of ``width`` values a row."""

    rng: np.random.Generator
    at: str = "x"
    width: int = 2
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    stored: list[onnx.TensorProto] = field(default_factory=list[onnx.TensorProto])

    def name(self) -> str:
        return f"t{len(self.nodes)}_{len(self.stored)}"

    def keep(self, values: Any) -> str:
        name = self.name()
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def put(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        self.at = name
        return name

    def dense(self, out: int | None = None) -> str:
        out = out or int(self.rng.integers(2, 5))
        w = self.rng.normal(size=(self.width, out)) / np.sqrt(self.width)
        b = self.rng.normal(size=out) / 2
        self.width = out
        return self.put("Gemm", self.at, self.keep(w.astype(np.float32)), self.keep(b.astype(np.float32)))

    def number(self) -> str:
        return self.keep(np.float32(np.round(self.rng.normal(), 2)))


def _plain(op: str, **attributes: Any) -> Callable[[Sketch], object]:
    return lambda s: s.put(op, s.at, **attributes)


def _positive(op: str) -> Callable[[Sketch], object]:
    """The operator of ``x^2 + 1/2``."""

    def move(s: Sketch) -> None:
        s.put("Mul", s.at, s.at)
        s.put("Add", s.at, s.keep(np.float32(0.5)))
        s.put(op, s.at)

    return move


def _with_itself(op: str) -> Callable[[Sketch], object]:
    def move(s: Sketch) -> None:
        old = s.at
        width = s.width
        s.put(op, old, s.dense(width))

    return move


def _clip(s: Sketch) -> None:
    s.put("Clip", s.at, s.keep(np.float32(-0.5)), s.keep(np.float32(0.75)))


def _concat(s: Sketch) -> None:
    if s.width <= 3:
        s.put("Concat", s.at, s.at if s.rng.random() < 0.5 else "x", axis=1)
        s.width += s.width if s.nodes[-1].input[1] != "x" else 2


def _gather(s: Sketch) -> None:
    index = s.rng.integers(0, s.width, 3).astype(np.int64)
    s.put("Gather", s.at, s.keep(index), axis=1)
    s.width = 3


def _reduced(op: str) -> Callable[[Sketch], object]:
    """The row's reduction, subtracted from the row."""

    def move(s: Sketch) -> None:
        old = s.at
        s.put(op, old, s.keep(np.int64([1])), keepdims=1)
        s.put("Sub", old, s.at)

    return move


def _power(s: Sketch) -> None:
    s.put("Pow", s.at, s.keep(np.float32(s.rng.choice([2.0, 3.0]))))


def _where(s: Sketch) -> None:
    old = s.at
    mask = s.put("Less", old, s.number())
    s.put("Where", mask, s.put("Neg", old), old)


def _quotient(s: Sketch) -> None:
    old = s.at
    s.put("Abs", old)
    s.put("Div", old, s.put("Add", s.at, s.keep(np.float32(1))))


def _image(s: Sketch) -> None:
    """A convolution over the row as an image of one line, or a pool."""
    rows = s.put("Unsqueeze", s.at, s.keep(np.int64([1])))
    if s.rng.random() < 0.5:
        w = s.rng.normal(size=(1, 1, 2)).astype(np.float32)
        s.put("Conv", rows, s.keep(w), kernel_shape=[2])
    else:
        s.put(str(s.rng.choice(["MaxPool", "AveragePool"])), rows, kernel_shape=[2])
    s.put("Squeeze", s.at, s.keep(np.int64([1])))
    s.width -= 1


def _slice(s: Sketch) -> None:
    if s.width > 2:
        s.put("Slice", s.at, s.keep(np.int64([1])), s.keep(np.int64([s.width])), s.keep(np.int64([1])))
        s.width -= 1


MOVES: dict[str, Callable[[Sketch], object]] = {
    **{op: _plain(op) for op in ("Relu", "Sigmoid", "Tanh", "Abs", "Softplus", "Sin", "Cos", "Neg", "Atan")},
    **{
        op: _plain(op)
        for op in ("Elu", "Selu", "Softsign", "HardSigmoid", "HardSwish", "Erf", "Floor", "Sign")
    },
    **{op: _plain(op) for op in ("Celu", "Ceil", "Round", "ThresholdedRelu", "Identity", "Gelu", "Mish")},
    **{op: _positive(op) for op in ("Sqrt", "Log", "Reciprocal")},
    **{op: _with_itself(op) for op in ("Add", "Sub", "Mul", "Max", "Min")},
    **{op: _reduced(op) for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1")},
    "LeakyRelu": _plain("LeakyRelu", alpha=0.125),
    "Softmax": _plain("Softmax", axis=1),
    "LogSoftmax": _plain("LogSoftmax", axis=1),
    "LayerNormalization": lambda s: s.put(
        "LayerNormalization", s.at, s.keep(np.ones(s.width, np.float32)), axis=1, epsilon=0.125
    ),
    "Clip": _clip,
    "Concat": _concat,
    "Gather": _gather,
    "Pow": _power,
    "Where": _where,
    "Div": _quotient,
    "Conv": _image,
    "Slice": _slice,
}
RELU = ("Relu",)


@dataclass(frozen=True)
class Query:
    """Files of one query, and what brute force knows.

    Attributes:
        model, spec: the files.
        least: the least violation value seen (the condition holds where it is below 0), and the size of the
            values that it is the difference of.
        operators: what the network is made of.
    """

    model: Path
    spec: Path
    least: float
    size: float
    operators: tuple[str, ...]

    @property
    def known_sat(self) -> bool:
        """Whether some input violates, by more than rounding explains."""
        return self.least < -MARGIN * self.size

    @property
    def looks_unsat(self) -> bool:
        """Whether brute force is far from a violation."""
        return self.least > MARGIN * self.size


def network(rng: np.random.Generator) -> tuple[Callable[[Any], onnx.ModelProto], tuple[str, ...]]:
    """A random network (made for a given size of the batch), and its operators."""
    s = Sketch(rng)
    s.dense()
    chosen: list[str] = []
    names = RELU if rng.random() < 0.2 else tuple(MOVES)
    for _ in range(int(rng.integers(1, 5))):
        name = str(rng.choice(names))
        if s.width < 2:
            s.dense()
        MOVES[name](s)
        chosen.append(name)
        if rng.random() < 0.5 or names == RELU:
            s.dense()
    s.dense(2)
    s.nodes[-1].output[0] = "y"

    def model(batch: Any) -> onnx.ModelProto:
        ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 2]) for n in ("x", "y")]
        graph = helper.make_graph(s.nodes, "g", ports[:1], ports[1:], s.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    return model, tuple(chosen)


def query(seed: tuple[int, ...], folder: Path) -> Query | None:
    """A random query; None where the random network is not one that onnxruntime takes."""
    import onnxruntime as ort

    rng = np.random.default_rng(seed)
    model, operators = network(rng)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model("N").SerializeToString(), options)
    except Exception as error:  # onnxruntime has many kinds
        if "Could not find an implementation" in str(error):
            return None
        raise
    low = np.round(rng.uniform(-1.5, 0.5, 2), 2)
    high = low + np.where(rng.random(2) < 0.1, 0, np.round(rng.uniform(0.05, 1.5, 2), 2))
    rows = [np.round(rng.normal(size=2), 2) for _ in range(int(rng.integers(1, 3)))]

    def margins(x: Array) -> Array:
        y = session.run(None, {"x": x.astype(np.float32)})[0].astype(np.float64)
        return np.stack([y @ c for c in rows], axis=1)

    points = low + rng.random((1500, 2)) * (high - low)
    points = np.concatenate([points, [[a, b] for a in (low[0], high[0]) for b in (low[1], high[1])]])
    held = margins(points)
    if not np.isfinite(held).all():
        return None
    spread = float(np.ptp(held, axis=0).max())
    shift = float(rng.choice([-0.4, -0.05, 0.02, 0.2])) * max(spread, 0.01)
    # violated where every row is at most its constant
    limits = [float(np.round(v + shift, 4)) for v in held[held.max(axis=1).argmin()]]

    def worst(x: Array) -> Array:
        return (margins(x) - limits).max(axis=1)

    best = points[worst(points).argsort()[:8]]
    for k in range(12):
        near = np.clip(best[:, None] + 0.5 ** (k + 1) * rng.normal(size=(8, 40, 2)), low, high).reshape(-1, 2)
        pool = np.concatenate([best, near])
        best = pool[worst(pool).argsort()[:8]]
    least = float(worst(best).min())
    files = folder / "m.onnx", folder / "p.vnnlib"
    onnx.save(model(1), files[0])
    files[1].write_text(_text(low, high, rows, limits))
    size = 1 + float(np.abs(held).max())
    return Query(*files, least, size, operators)


def _text(low: Array, high: Array, rows: list[Array], limits: list[float]) -> str:
    lines = [f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2)]
    for i in range(2):
        lines += [f"(assert (>= X_{i} {low[i]:.2f}))", f"(assert (<= X_{i} {high[i]:.2f}))"]
    for c, limit in zip(rows, limits, strict=True):
        lines.append(f"(assert (<= (+ (* {c[0]:.2f} Y_0) (* {c[1]:.2f} Y_1)) {limit:.4f}))")
    return "\n".join(lines)
