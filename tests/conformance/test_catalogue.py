"""Every row of the activation catalogue keeps the scalar engine's contract.

What is compared with is not the engine: the expression evaluated in float64 (NumPy, SciPy), and where that
says "violated", the same evaluated with mpmath at 60 digits, which decides. PyTorch's own functions are the
reference for the formulas, and its exporters for the import.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import warnings
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, Fn, nodes
from bounds.graph import Op
from bounds.relax.catalogue import CATALOGUE, LAYERS, Activation, activation, pade
from bounds.relax.scalar import scalar_function

mp = pytest.importorskip("mpmath")

Array = Any
ROOT = Path(__file__).resolve().parents[2]
EVERY = pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)

# rows that are one rectifier (after an affine step), which is a primitive of its own
RECTIFIERS = {"relu", "leaky-relu", "prelu", "abs"}


# --- drawing ---


def window(row: Activation, reach: float = 8.0) -> tuple[float, float]:
    """Where intervals lie: the domain less a margin at finite open ends, at most ``reach`` from 0."""
    low, high = (
        end if math.isinf(end) or closed else end + (1e-3 if side == 0 else -1e-3)
        for side, (end, closed) in enumerate(zip(row.domain, _closed_ends(row), strict=True))
    )
    return max(low, -reach), min(high, reach)


def _closed_ends(row: Activation) -> list[bool]:
    finite = [e if math.isfinite(e) else 0.0 for e in row.domain]
    values = evaluate_expression(row.expression, np.array(finite))
    return [bool(np.isfinite(v)) for v in values]


def special_points(row: Activation) -> Array:
    """Kinks, jumps and inflections, roughly: where second differences change sign or leap."""
    low, high = window(row)
    z = np.linspace(low, high, 4001)
    bend = np.diff(evaluate_expression(row.expression, z), 2)
    change = (bend[1:] * bend[:-1] < 0) | (abs(bend[1:] - bend[:-1]) > 20 * (np.median(abs(bend)) + 1e-9))
    return np.unique(np.concatenate([[0.0], np.round(z[1:-2][change], 2)]))


def draw_intervals(row: Activation, count: int, seed: int) -> tuple[Array, Array]:
    """Intervals of widths 1e-3 to 20, points among them; a third around special points or ending there."""
    rng = np.random.default_rng([seed, *row.name.encode()])
    low, high = window(row)
    middle = rng.uniform(low, high, count)
    width = 10 ** rng.uniform(-3, math.log10(20), count)
    special = special_points(row)
    near = rng.random(count) < 0.33
    middle = np.where(near, rng.choice(special, count) + rng.uniform(-0.6, 0.6, count) * width, middle)
    reach = window(row, 30.0)
    l, u = (np.clip(v, *reach) for v in (middle - width / 2, middle + width / 2))
    l, u = np.minimum(l, u), np.maximum(l, u)
    exact = rng.random(count) < 0.1  # an end exactly at a kink
    l = np.where(exact, np.clip(np.minimum(rng.choice(special, count), u), *reach), l)
    point = rng.random(count) < 0.02
    return l, np.where(point, l, u)


def draw_points(row: Activation, l: Array, u: Array, count: int, seed: int) -> Array:
    """``count n`` points of the intervals: ends, special points, random ones."""
    rng = np.random.default_rng([seed + 1, *row.name.encode()])
    t = np.concatenate([[[0.0]], rng.random((count - 3, 1)), [[0.5], [1.0]]])
    z = np.clip(l + t * (u - l), l, u)
    special = rng.choice(special_points(row), (count // 10, l.size))
    z[1 : 1 + count // 10] = np.clip(special, l, u)
    z[-1] = u
    return z


# --- the oracle ---

_MP_UNARY: dict[Fn, Callable[[Any], Any]] = {
    Fn.NEG: lambda a: -a, Fn.ABS: abs, Fn.RELU: lambda a: max(a, mp.mpf(0)), Fn.EXP: mp.exp,
    Fn.LOG: mp.log, Fn.SQRT: mp.sqrt, Fn.SIN: mp.sin,
    Fn.COS: mp.cos, Fn.TAN: mp.tan, Fn.TANH: mp.tanh,
    Fn.SIGMOID: lambda a: 1 / (1 + mp.exp(-a)), Fn.SOFTPLUS: lambda a: mp.log(1 + mp.exp(a)),
    Fn.ERF: mp.erf, Fn.ATAN: mp.atan, Fn.ASIN: mp.asin,
    Fn.ACOS: mp.acos, Fn.SINH: mp.sinh, Fn.COSH: mp.cosh,
    Fn.ASINH: mp.asinh, Fn.ACOSH: mp.acosh, Fn.ATANH: mp.atanh,
    Fn.SIGN: mp.sign, Fn.FLOOR: mp.floor, Fn.CEIL: mp.ceil,
    Fn.TRUNC: lambda a: mp.floor(a) if a >= 0 else mp.ceil(a), Fn.ROUND: mp.nint,
    Fn.STEP: lambda a: mp.mpf(a >= 0), Fn.STRICT: lambda a: mp.mpf(a > 0),
}  # fmt: skip
_MP_BINARY: dict[Fn, Callable[[Any, Any], Any]] = {
    Fn.ADD: lambda a, b: a + b, Fn.SUB: lambda a, b: a - b, Fn.MUL: lambda a, b: a * b,
    Fn.DIV: lambda a, b: a / b, Fn.MAX: max, Fn.MIN: min,
}  # fmt: skip


def precise(e: Expr, z: float) -> Any:
    """``e(z)`` with 60 digits."""
    with mp.workdps(60):
        values: dict[Expr, Any] = {}
        for part in nodes(e):
            args = [values[a] for a in part.args]
            if part.fn is Fn.X:
                values[part] = mp.mpf(float(z))
            elif part.fn is Fn.CONST:
                values[part] = mp.mpf(part.value)
            elif part.fn is Fn.POW:
                whole = part.value.is_integer()
                values[part] = args[0] ** (int(part.value) if whole else mp.mpf(part.value))
            elif part.fn is Fn.WHERE:
                values[part] = args[1] if args[0] == 1 else args[2]
            elif part.fn in _MP_BINARY:
                values[part] = _MP_BINARY[part.fn](*args)
            else:
                values[part] = _MP_UNARY[part.fn](*args)
        return +values[e]


def assert_never(
    row: Activation, wrong: Array, broken: Callable[[Any, tuple[int, ...]], bool], z: Array
) -> None:
    """No entry of ``wrong`` (how far float64 says a bound is violated) is a violation at 60 digits.

    The 60 worst, relative to the value's size, are looked at.
    """
    worst = np.argsort(-wrong, axis=None)[:60]
    for flat in worst:
        at = np.unravel_index(int(flat), wrong.shape)
        if not wrong[at] > 0:
            break
        with mp.workdps(60):
            index = tuple(int(i) for i in at)
            assert not broken(precise(row.expression, float(z[index])), index), (
                f"{row.name}: violated at z = {float(z[index])!r}, index {index}"
            )


# --- soundness ---


def check_lines(row: Activation, intervals: int, samples: int, seed: int) -> None:
    """Ranges and lines of good and of random slopes contain ``intervals * samples`` points."""
    f = scalar_function(row.expression)
    l, u = draw_intervals(row, intervals, seed)
    z = draw_points(row, l, u, samples, seed)
    y = evaluate_expression(row.expression, z)
    assert np.all(np.isfinite(y)), "the tests draw outside the domain"
    scale = 1 + abs(y)
    low, high = f.range(l, u)
    assert not np.any(np.isnan(low) | np.isnan(high))
    assert_never(row, (low - y) / scale, lambda v, i: low[i[1]] > v, z)
    assert_never(row, (y - high) / scale, lambda v, i: high[i[1]] < v, z)
    rng = np.random.default_rng([seed + 2, *row.name.encode()])
    good = f.supporting(l, u, l + rng.random(intervals) * (u - l))
    spread = np.where(u > l, np.ptp(y, axis=0) / np.maximum(u - l, 1e-3), 1.0)
    noise = (rng.normal(size=(2, intervals)) * spread).astype(np.float32).astype(np.float64)
    assert all(np.array_equal(k, k.astype(np.float32)) and np.all(np.isfinite(k)) for k in good)
    clear = _regular(row, l) & _regular(row, u)
    for kl, ku in (good, (noise[0], noise[1])):
        bl, bu = f.intercepts(l, u, kl, ku)
        assert np.all(np.isfinite(bl) & np.isfinite(bu)), f"{row.name}: nothing known inside the domain"
        size = scale + abs(kl * z) + abs(ku * z)
        _check_side(row, z, kl, bl, (kl * z + bl - y) / size, -1)
        _check_side(row, z, ku, bu, (y - ku * z - bu) / size, 1)
        _check_tight(row, (y - kl * z - bl).min(0), y, kl * (u - l), samples, clear)
        _check_tight(row, (ku * z + bu - y).min(0), y, ku * (u - l), samples, clear)


def _check_side(row: Activation, z: Array, k: Array, b: Array, wrong: Array, side: int) -> None:
    def broken(value: Any, i: tuple[int, ...]) -> bool:
        line = mp.mpf(float(k[i[1]])) * mp.mpf(float(z[i])) + mp.mpf(float(b[i[1]]))
        return bool(side * (line - value) < 0)

    assert_never(row, wrong, broken, z)


def _check_tight(row: Activation, gap: Array, y: Array, rise: Array, samples: int, clear: Array) -> None:
    """The line comes as close as samples that dense can tell, where both ends are ``clear``."""
    room = (np.ptp(y, axis=0) + abs(rise)) * (12 / samples) + 1e-6 * (1 + abs(y).max(0))
    loose = np.flatnonzero(clear & ~(gap <= room))
    assert not loose.size, f"{row.name}: not tight at {loose[:5]}"


def _regular(row: Activation, ends: Array) -> Array:
    """Ends that are no jump and no vertical tangent.

    At those only soundness is asked for: a jump exactly at an end may count with both its sides, and a slope
    may be as large as float32 allows.
    """
    here = evaluate_expression(row.expression, ends)
    near = [evaluate_expression(row.expression, ends + side * 1e-9) for side in (-1, 1)]
    return np.all([abs(v - here) <= 1e-6 * (1 + abs(here)) for v in near], axis=0)


@EVERY
def test_bounds_contain_samples(row: Activation) -> None:
    check_lines(row, 200, 200, seed=0)


@pytest.mark.slow
@EVERY
def test_bounds_contain_a_million_samples(row: Activation) -> None:
    for chunk in range(4):
        check_lines(row, 500, 500, seed=10 + chunk)


@EVERY
def test_float32_evaluation_is_covered(row: Activation) -> None:
    """The model's own rounding: NumPy's float32 evaluation of the expression, operation by operation."""
    f = scalar_function(row.expression)
    l, u = (v.astype(np.float32).astype(np.float64) for v in draw_intervals(row, 300, seed=5))
    keep = (l <= u) & (l >= window(row, 30.0)[0]) & (u <= window(row, 30.0)[1])
    l, u = l[keep], u[keep]
    z = draw_points(row, l, u, 100, seed=5).astype(np.float32)
    z = np.clip(z, l.astype(np.float32), u.astype(np.float32))
    error = f.model_error(l, u)
    assert not np.any(np.isnan(error)) and np.all(error >= 0)
    single = evaluate_expression(row.expression, z)
    double = evaluate_expression(row.expression, z.astype(np.float64))
    assert np.mean(np.isfinite(error)) > 0.5, f"{row.name}: nothing is claimed about float32"
    wrong = np.where(np.isfinite(error), abs(single.astype(np.float64) - double) - error, -np.inf)

    def broken(value: Any, i: tuple[int, ...]) -> bool:
        return bool(abs(mp.mpf(float(single[i])) - value) > mp.mpf(float(error[i[1]])))

    assert_never(row, wrong / (1 + abs(double)), broken, z.astype(np.float64))


@EVERY
def test_outside_the_domain_nothing_is_known(row: Activation) -> None:
    """Infinite ends and intervals that leave the domain: infinite bounds, never NaN, never a wrong number."""
    f = scalar_function(row.expression)
    low = row.domain[0]
    l = np.array([-np.inf, -np.inf, 0.5, low if math.isfinite(low) else -1e30, -1e308, 2.0])
    u = np.array([np.inf, 0.5, np.inf, 0.75, 1e308, 3e38])
    if math.isfinite(low):
        l[-2] = low - 1
    for kl, ku in (f.supporting(l, u, np.array([0.0, 0.0, 1.0, 0.6, 0.0, 2.5])), (np.ones(6), np.ones(6))):
        assert np.all(np.isfinite(kl) & np.isfinite(ku))
        bl, bu = f.intercepts(l, u, kl, ku)
        assert not np.any(np.isnan(bl) | np.isnan(bu)) and np.all(bl < np.inf) and np.all(bu > -np.inf)
    below, above = f.range(l, u)
    assert not np.any(np.isnan(below) | np.isnan(above))
    assert not np.any(np.isnan(f.model_error(l, u)))
    if math.isfinite(low):
        assert below[0] == -np.inf and above[0] == np.inf


@EVERY
def test_derivative_and_value(row: Activation) -> None:
    """Plain floats: the value is the expression's, the derivative the difference quotient's (off kinks)."""
    f = scalar_function(row.expression)
    low, high = window(row, 4.0)
    z = np.linspace(low, high, 203)[1:-1] + 1e-4
    np.testing.assert_array_equal(f.value(z), evaluate_expression(row.expression, z))
    slope = f.derivative(z)
    assert slope.shape == z.shape and np.all(np.isfinite(slope))
    h = 1e-6
    left, here, right = (evaluate_expression(row.expression, z + d) for d in (-h, 0, h))
    smooth = abs((right - here) - (here - left)) <= 1e-4 * h * (1 + abs(slope))
    assert smooth.mean() > 0.5
    np.testing.assert_allclose(slope[smooth], (right - left)[smooth] / (2 * h), rtol=1e-4, atol=1e-4)


# --- the table ---


def test_table_is_complete() -> None:
    """Names are unique, every cell is filled, the pictures' intervals lie in the domains."""
    names = [row.name for row in CATALOGUE]
    assert len(names) == len(set(names)) >= 60
    assert len({row.expression for row in CATALOGUE}) == len(CATALOGUE)
    for row in CATALOGUE:
        assert row.formula and row.source and row.pytorch and row.onnx
        assert row.domain[0] <= row.interval[0] < row.interval[1] <= row.domain[1]
        assert activation(row.name) is row
    layers = [layer.name for layer in LAYERS]
    assert len(layers) == len(set(layers)) and not set(layers) & set(names)


def test_families_have_their_defaults() -> None:
    """The row is what the builder makes, and other parameters make other functions."""
    for row in CATALOGUE:
        if row.family is not None and row.name not in ("prelu", "poly-norm"):
            assert row.family() == row.expression, row.name
    z = np.array([-1.0, 0.5])
    np.testing.assert_allclose(evaluate_expression(pade((1.0, 1.0), (1.0,)), z), [0.0, 1.0])


def page_generator() -> Any:
    """``scripts/docs_catalogue.py`` as a module."""
    place = ROOT / "scripts" / "docs_catalogue.py"
    spec = importlib.util.spec_from_file_location("docs_catalogue", place)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.slow
def test_page_and_pictures_are_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator makes what is in docs/, and nothing large."""
    monkeypatch.setenv("SUREBOUND_CACHE_DIR", str(tmp_path))
    script = page_generator()
    files = script.render()
    assert len(files) == len(CATALOGUE) + 1
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python scripts/docs_catalogue.py"
        assert path.suffix == ".md" or len(text.encode()) < 8000
    assert set(script.PICTURES.iterdir()) == {p for p in files if p.suffix == ".svg"}


@pytest.mark.parametrize("name", ["relu", "silu", "clipact", "log"])
def test_pictures_are_well_formed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XML without numbers that are none, twice the same, from cache or not."""
    monkeypatch.setenv("SUREBOUND_CACHE_DIR", str(tmp_path))
    script = page_generator()
    text = script.picture(activation(name))
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314  (our own text)
    assert "nan" not in text and "inf" not in text
    assert script.picture(activation(name)) == text
    assert (ROOT / "docs" / "reference" / "activations" / f"{name}.svg").read_text(encoding="utf-8") == text


# --- PyTorch ---


def _kan_edge(x: Any, functional: Any) -> Any:
    relu, spline = functional.relu, 0.0
    for i, c in enumerate((0.3, -0.6, 0.9, -0.2, 0.5)):
        d = abs(x - (-2.0 + i))
        spline = spline + c / 6 * (relu(2 - d) ** 3 - 4 * relu(1 - d) ** 3)
    return 0.5 * functional.silu(x) + spline


def _pade(x: Any) -> Any:
    p = 0.03 + 0.615 * x + 2.33 * x**2 + 3.05 * x**3 + 1.49 * x**4 + 0.25 * x**5
    return p / (1 + abs(1.14 * x + 4.39 * x**2 + 0.87 * x**3 + 0.347 * x**4))


def torch_functions() -> dict[str, Callable[[Any], Any]]:
    """Every row as a user of PyTorch writes it."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    half = math.sqrt(0.5)
    return {
        "relu": F.relu, "leaky-relu": F.leaky_relu, "relu6": F.relu6, "abs": torch.abs, "sign": torch.sign,
        "prelu": lambda x: F.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)),
        "threshold": lambda x: F.threshold(x, 0.5, 0.0),
        "clipact": lambda x: torch.where(x <= 2, F.relu(x), torch.zeros_like(x)),
        "clipped-relu": lambda x: torch.clamp(x, 0, 2),
        "step": lambda x: torch.where(x >= 0, torch.ones_like(x), torch.zeros_like(x)),
        "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "trunc": torch.trunc,
        "hard-sigmoid": F.hardsigmoid, "hard-swish": F.hardswish, "hardtanh": F.hardtanh,
        "softshrink": F.softshrink, "hardshrink": F.hardshrink,
        "quantiser": lambda x: 0.5 * torch.clamp(torch.round(x / 0.5), -4, 3),
        "elu": F.elu, "selu": F.selu, "celu": lambda x: F.celu(x, 1.5), "softplus": F.softplus,
        "softsign": F.softsign, "sigmoid": torch.sigmoid,
        "tempered-sigmoid": lambda x: 2 * torch.sigmoid(1.5 * x) - 1, "log-sigmoid": F.logsigmoid,
        "logit": torch.logit, "tanh": torch.tanh, "tanhshrink": F.tanhshrink, "arctan": torch.atan,
        "erf": torch.erf, "squareplus": lambda x: (x + torch.sqrt(x**2 + 4)) / 2,
        "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "snake": lambda x: x + torch.sin(x) ** 2,
        "gaussian": lambda x: torch.exp(-(x**2)), "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
        "reciprocal": torch.reciprocal, "rsqrt": torch.rsqrt, "sinh": torch.sinh, "cosh": torch.cosh,
        "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh, "asin": torch.asin,
        "acos": torch.acos, "quadratic": lambda x: x**2, "cubic": lambda x: x**3, "power-4": lambda x: x**4,
        "power-5": lambda x: x**5, "power-1.5": lambda x: x**1.5, "inverse-square": lambda x: x**-2,
        "squared-relu": lambda x: F.relu(x) ** 2,
        "poly-relu": lambda x: sum(F.relu(x) ** i / 3 for i in (1, 2, 3)),
        "poly-norm": lambda x: 0.5 * x + 0.25 * x**2 - 0.125 * x**3, "pade": _pade,
        "gelu": F.gelu, "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu,
        "swish": lambda x: x * torch.sigmoid(1.5 * x), "mish": F.mish,
        "telu": lambda x: x * torch.tanh(torch.exp(x)), "golu": lambda x: x * torch.exp(-torch.exp(-x)),
        "aptx": lambda x: (1 + torch.tanh(x)) * (0.5 * x),
        "xatlu": lambda x: x * ((torch.atan(x) / math.pi + 0.5) * 1.2 - 0.1),
        "xgelu": lambda x: x * (0.5 * (1 + torch.erf(x * half)) * 1.2 - 0.1),
        "xsilu": lambda x: x * (torch.sigmoid(x) * 1.2 - 0.1), "lisht": lambda x: x * torch.tanh(x),
        "kan-spline": lambda x: _kan_edge(x, F),
        "kan-fourier": lambda x: (
            0.1 + 0.5 * torch.cos(x) + 0.8 * torch.sin(x) - 0.3 * torch.cos(2 * x) + 0.25 * torch.sin(2 * x)
        ),
    }  # fmt: skip


@pytest.mark.torch
def test_expressions_are_pytorchs_functions() -> None:
    """Float64, 801 points of the window with zero and the domain's ends."""
    torch = pytest.importorskip("torch")
    functions = torch_functions()
    assert set(functions) == {row.name for row in CATALOGUE}
    for row in CATALOGUE:
        z = np.append(np.linspace(*window(row), 801), np.clip([0.0, 0.5, 2.0], *window(row)))
        ours = evaluate_expression(row.expression, z)
        theirs = functions[row.name](torch.as_tensor(z)).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=row.name)


def imported(row: Activation, *, dynamo: bool) -> Any:
    """The row's PyTorch function between two affine layers' worth of nothing, exported and imported."""
    torch = pytest.importorskip("torch")
    from bounds.io.onnx import load_bytes

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch_functions()[row.name](x)

    example = torch.full((1, 3), sum(np.clip([0.3, 0.9], *window(row))) / 2)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(Module().eval(), (example,), dynamo=True, verbose=False).save(buffer)
        else:
            torch.onnx.export(Module().eval(), (example,), buffer, dynamo=False)
    return load_bytes(buffer.getvalue(), row.name)


def check_import(row: Activation, *, dynamo: bool) -> None:
    """One nonlinear node, with the function's values."""
    graph = imported(row, dynamo=dynamo).graph
    wanted = Op.RELU if row.name in RECTIFIERS else Op.SCALAR
    nonlinear = [n.op for n in graph.nodes if n.op in (Op.SCALAR, Op.RELU, Op.MUL)]
    assert nonlinear == [wanted], f"{row.name}: {nonlinear}"
    if wanted is Op.SCALAR:
        (node,) = (n for n in graph.nodes if n.op is Op.SCALAR)
        assert node.params["function"] is not None
    from bounds.evaluate import evaluate

    low, high = window(row, 4.0)
    x = np.stack([np.linspace(low, high, 61)] * 3, axis=1)
    x += 1e-3 * (x < (low + high) / 2)  # off the jumps, where constants of float32 may differ
    ours = evaluate_expression(row.expression, x)
    got = np.asarray(evaluate(graph, x)).reshape(x.shape)
    np.testing.assert_allclose(got, ours, rtol=2e-6, atol=2e-6, err_msg=row.name)


SOME = ("silu", "gelu-tanh", "mish", "hard-swish", "elu", "pade", "prelu", "squared-relu")


@pytest.mark.torch
@pytest.mark.parametrize("name", SOME)
def test_export_is_one_function(name: str) -> None:
    check_import(activation(name), dynamo=False)


# what PyTorch's TorchScript exporter refuses, so that there is nothing to import; the other takes everything
NOT_EXPORTED = {"threshold", "trunc", "sinh", "cosh", "asinh", "acosh", "atanh"}

BOTH = [(row, dynamo) for row, dynamo in itertools.product(CATALOGUE, (False, True))]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("row", "dynamo"), BOTH, ids=lambda v: getattr(v, "name", str(v)))
def test_every_export_is_one_function(row: Activation, dynamo: bool) -> None:
    if row.name in NOT_EXPORTED and not dynamo:
        errors = pytest.importorskip("torch").onnx.errors
        with pytest.raises(errors.OnnxExporterError):
            imported(row, dynamo=False)
        return
    check_import(row, dynamo=dynamo)
