"""What a model's own float32 evaluation is off by: measured against onnxruntime and NumPy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from precise import TooLargeError, UndefinedError, value
from scalar_functions import PIECEWISE, SMOOTH, clip, where

from bounds.expression import Expr, Fn, X, call, const
from bounds.relax.model_rounding import KERNELS
from bounds.relax.scalar import scalar_function

OPERATORS = {
    Fn.EXP: "Exp", Fn.LOG: "Log", Fn.SQRT: "Sqrt", Fn.SIN: "Sin", Fn.COS: "Cos", Fn.TAN: "Tan",
    Fn.TANH: "Tanh", Fn.SIGMOID: "Sigmoid", Fn.SOFTPLUS: "Softplus", Fn.ERF: "Erf", Fn.ATAN: "Atan",
    Fn.ASIN: "Asin", Fn.ACOS: "Acos", Fn.SINH: "Sinh", Fn.COSH: "Cosh", Fn.ASINH: "Asinh", Fn.ACOSH: "Acosh",
    Fn.ATANH: "Atanh",
}  # fmt: skip


def run(operator: str, x: np.ndarray) -> np.ndarray:
    """One ONNX operator in onnxruntime on the CPU."""
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None]) for n in "xy"]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "one", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def arguments(fn: Fn, rng: np.random.Generator) -> np.ndarray:
    x = np.concatenate(
        [
            rng.uniform(-20, 20, 150),
            rng.uniform(-1, 1, 100),
            np.exp(rng.uniform(-80, 80, 100)) * rng.choice([-1, 1], 100),
            [0.0, 1.0, -1.0, 87.0, -87.0, -100.0, 17.0, 9.0, -18.0],
        ]
    ).astype(np.float32)
    if fn in (Fn.SIN, Fn.COS, Fn.TAN):
        x = x[np.abs(x) < 1000]
    return x


@pytest.mark.parametrize("fn", [fn for fn in KERNELS if fn is not Fn.POW])
def test_kernels(fn: Fn, rng: np.random.Generator) -> None:
    """onnxruntime and NumPy stay within half of the declared error, and within the one computed."""
    e = call(fn, X)
    x = arguments(fn, rng)
    relative, absolute = KERNELS[fn]
    with np.errstate(all="ignore"):
        outputs = [run(OPERATORS[fn], x), scalar_function(e).value(x)]
    declared = scalar_function(e).model_error(x.astype(np.float64), x.astype(np.float64))
    for i, z in enumerate(x):
        try:
            exact = value(e, Fraction(float(z)))
        except (UndefinedError, TooLargeError):
            assert declared[i] == np.inf
            continue
        if abs(exact) > 2**126:
            continue
        allowed = (Fraction(relative) * abs(exact) + Fraction(absolute)) / 2**25 + Fraction(1, 2**126)
        for y in outputs:
            if fn is Fn.TAN and abs(exact) > 1000:
                continue  # next to a pole kernels differ by how they reduce the argument
            assert abs(Fraction(float(y[i])) - exact) <= allowed, (z, y[i], float(exact))
            assert abs(Fraction(float(y[i])) - exact) <= Fraction(float(declared[i]))


@pytest.mark.parametrize("name", {**SMOOTH, **PIECEWISE})
def test_whole_functions(name: str, rng: np.random.Generator) -> None:
    e, low, high = {**SMOOTH, **PIECEWISE}[name]
    f = scalar_function(e)
    lo, hi = np.sort(rng.uniform(low, high, (2, 8)), axis=0)
    error = f.model_error(lo, hi)
    assert np.isfinite(error).all()
    for i in range(8):
        z = rng.uniform(lo[i], hi[i], 12).astype(np.float32)
        z = z[(z.astype(np.float64) >= lo[i]) & (z.astype(np.float64) <= hi[i])]
        for x, y in zip(z, f.value(z), strict=True):
            assert abs(Fraction(float(y)) - value(e, Fraction(float(x)))) <= Fraction(float(error[i]))


@pytest.mark.parametrize("name", SMOOTH)
def test_errors_are_small(name: str) -> None:
    """A few dozen units in the last place of what is computed on the way, not a worst case of everything."""
    e, low, high = SMOOTH[name]
    z = np.linspace(low, high, 50)
    f = scalar_function(e)
    assert (f.model_error(z, z) <= 2.0**-24 * 150 * (1 + np.abs(f.value(z)) + z**2)).all()


def error_at(e: Expr, lo: float, hi: float) -> float:
    return float(scalar_function(e).model_error(np.array([lo]), np.array([hi]))[0])


def test_exact_operations_cost_nothing() -> None:
    for e in (call(Fn.ABS, X), call(Fn.RELU, X), clip(X, -1, 2.5), call(Fn.FLOOR, X), -X, call(Fn.STEP, X)):
        assert error_at(e, -3.0, 3.0) == 0
    # whole numbers add and multiply exactly
    assert error_at(1 - call(Fn.STEP, X), -3.0, 3.0) == 0
    assert error_at(call(Fn.ROUND, X) * 3 - 7, -3.0, 3.0) == 0


def test_jumps_behind_a_rounding() -> None:
    """x * 0.1f rounds, so its floor may be one off near a whole number, and only there."""
    e = call(Fn.FLOOR, X * 0.1)
    assert error_at(e, 9.0, 11.0) == pytest.approx(1, rel=1e-6)
    assert error_at(e, 11.0, 12.0) == 0
    assert error_at(call(Fn.STEP, X * 0.1 - 1), 9.0, 11.0) == pytest.approx(1, rel=1e-6)
    assert error_at(where(call(Fn.STEP, X * 0.1 - 1), 5.0, -2.0), 9.0, 11.0) == pytest.approx(7, rel=1e-6)
    assert error_at(where(call(Fn.STEP, X - 1), 5.0, -2.0), 0.0, 2.0) > 0  # x - 1 is charged a rounding
    assert error_at(where(call(Fn.STEP, X), 5.0, -2.0), -1.0, 2.0) == 0


@pytest.mark.parametrize(
    ("e", "lo", "hi"),
    [
        (call(Fn.EXP, X), 0.0, 89.0),
        (X * X, 0.0, 1e20),
        (1 / X, -1.0, 1.0),
        (1 / (X * 1e-30), 1e-30, 1.0),
        (call(Fn.LOG, X), 0.0, 1.0),
        (call(Fn.SQRT, X - 0.1), 0.1, 1.0),
        (call(Fn.TANH, call(Fn.EXP, X) - call(Fn.EXP, X)), 0.0, 100.0),
        (call(Fn.SIN, call(Fn.EXP, X)), 0.0, 100.0),
        (X + 1, -np.inf, 0.0),
        (const(1e300) + X, 0.0, 1.0),
    ],
)
def test_overflow_and_domains_are_infinite(e: Expr, lo: float, hi: float) -> None:
    assert error_at(e, lo, hi) == np.inf


def test_constants_that_are_no_floats() -> None:
    assert error_at(const(0.1) + 0 * X, 0.0, 1.0) >= abs(float(np.float32(0.1)) - 0.1)
    assert error_at(X**0.3, 1e10, 1e10) >= abs(float(np.float32(0.3)) - 0.3) * 1e3 * 20
