"""Normalisations by mean and variance, by root mean square, by p-norms, and across channels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from verifier.check.calls import ROUND, Call, Operator, inverse_error, moved, positive_axis
from verifier.check.elementwise import absolute, multiplied, summed
from verifier.check.functions import Function, X, const, power
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, product
from verifier.check.linear import dense_last, planes, sum_last, sum_slots, window_of
from verifier.check.network import UNMODELLED, Lowering, Value, Var
from verifier.check.rows import INVERSE, lanes, unlanes

_DENSE = 512  # rows up to this length are centred by one matrix
_ROOT = power(X, -0.5)


def _mean(net: Lowering, x: Var) -> Var:
    """(R, n) -> (R, 1)."""
    n = x.shape[1]
    total = sum_last(net, x, roundings=n)
    y = net.scaled(total, np.array(1 / n), error=inverse_error(n), roundings=2)
    return net.reshape(y, (x.shape[0], 1))


def _centred(net: Lowering, x: Var) -> Var:
    """Both numbers of ``I - 1/n`` are within one rounding of the true ones."""
    n = x.shape[1]
    if n <= _DENSE:
        weight = np.eye(n) - 1.0 / n
        return dense_last(net, x, weight, roundings=UNMODELLED, error=2 * inverse_error(n))
    return net.combine([(1, x), (-1, _mean(net, x))], roundings=UNMODELLED)


def _standard(net: Lowering, x: Var, epsilon: float, *, centre: bool, outer: Function = _ROOT) -> list[Var]:
    """``c * outer(mean(c^2) + epsilon)`` with c the (centred) rows; then the mean and the factor."""
    rows, n = x.shape
    if not n or epsilon < 0:
        raise ValueError(f"normalisation of {n} elements with epsilon {epsilon}")
    c = _centred(net, x) if centre else x
    total = sum_last(net, apply(net, power(X, 2), c), roundings=UNMODELLED)
    spread = net.scaled(total, np.array(1 / n), np.array(epsilon), error=inverse_error(n))
    factor = net.reshape(apply(net, outer, spread, roundings=UNMODELLED), (rows, 1))
    return [product(net, c, factor), _mean(net, x) if centre else factor, factor]


def _affine(net: Lowering, y: Var, scale: Value | None, bias: Value | None) -> Var:
    y = y if scale is None else multiplied(net, y, scale)
    return y if bias is None else summed(net, y, bias, 1)


def _layer_normalization(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    axis = positive_axis(int(call.attributes.get("axis", -1)), len(x.shape))
    axes = tuple(range(axis, len(x.shape)))
    centre = call.op == "LayerNormalization"
    rows, mean, factor = _standard(net, lanes(net, x, axes), call.number("epsilon", 1e-5), centre=centre)
    y = _affine(net, unlanes(net, rows, x.shape, axes), call.operand(1), call.optional(2) if centre else None)
    reduced = (*x.shape[:axis], *(1,) * len(axes))
    return [y, net.reshape(mean, reduced), net.reshape(factor, reduced)] if centre else [y]


def _grouped(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    channels, rank = x.shape[1], len(x.shape)
    alone = call.op == "InstanceNormalization"
    groups = channels if alone else int(call.attributes.get("num_groups", 0))
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups of {channels} channels")
    repeats = channels // groups if not alone and call.opset < 21 else 1
    rows = net.reshape(x, (x.shape[0] * groups, channels // groups * math.prod(x.shape[2:])))
    y = _standard(net, rows, call.number("epsilon", 1e-5), centre=True)[0]
    shape = (-1, *(1,) * (rank - 2))
    scale, bias = (
        moved(net, call.operand(i), lambda a: np.repeat(a, repeats).reshape(shape)) for i in (1, 2)
    )
    return [_affine(net, net.reshape(y, x.shape), scale, bias)]


def _mean_variance(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    axes = tuple(sorted(positive_axis(a, len(x.shape)) for a in call.integers("axes") or (0, 2, 3)))
    outer = fn("/", const(1), fn("+", fn("sqrt", X), const(1e-9)))
    y = _standard(net, lanes(net, x, axes), 0.0, centre=True, outer=outer)[0]
    return [unlanes(net, y, x.shape, axes)]


# ------------------------------------------------------------------ p-norms
def _power(net: Lowering, x: Var, p: float) -> Var:
    """``|x|^p``."""
    if p < 1:
        raise ValueError(f"p = {p} of a norm")
    if p == 1:
        return absolute(net, x)
    return apply(net, power(X, 2) if p == 2 else power(fn("abs", X), p), x)


def _lp_normalization(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    axis = (positive_axis(int(call.attributes.get("axis", -1)), len(x.shape)),)
    p = int(call.attributes.get("p", 2))
    if p not in (1, 2):
        raise ValueError(f"p = {p}")
    rows = lanes(net, x, axis)
    total = sum_last(net, _power(net, rows, p), roundings=rows.shape[1])
    inverse = apply(net, INVERSE if p == 1 else _ROOT, total, roundings=UNMODELLED)
    y = product(net, rows, net.reshape(inverse, (rows.shape[0], 1)))
    return [unlanes(net, y, x.shape, axis)]


def _lp_pool(net: Lowering, call: Call) -> list[Value]:
    x, p = net.variable(call.operand(0)), float(call.attributes.get("p", 2))
    kernel = x.shape[2:] if call.op == "GlobalLpPool" else call.integers("kernel_shape") or ()
    window = window_of(call, x.shape[2:], kernel)
    total = sum_slots(net, _power(net, x, p), planes(x, window.index()), (*x.shape[:2], *window.out), None)
    if p == 1:
        return [total]
    return [apply(net, fn("sqrt", X) if p == 2 else power(X, 1 / p), total)]


def _lrn(net: Lowering, call: Call) -> list[Value]:
    """``x / (bias + alpha / size * sum of squares of neighbouring channels)^beta``."""
    x, size = net.variable(call.operand(0)), int(call.attributes.get("size", 0))
    if size < 1:
        raise ValueError(f"size {size}")
    alpha, beta = call.number("alpha", 1e-4), call.number("beta", 0.75)
    rows = lanes(net, x, (1,))
    squares = apply(net, power(X, 2), rows)
    near = np.arange(rows.shape[1])[:, None] + np.arange(size) - (size - 1) // 2
    outside = (near < 0) | (near >= rows.shape[1])
    index = np.where(outside, -1, squares.index()[:, np.where(outside, 0, near)])
    total = sum_last(net, net.take(squares, index), roundings=size)
    base = net.scaled(total, np.array(alpha / size), np.array(call.number("bias", 1.0)), error=ROUND)
    y = product(net, rows, apply(net, power(X, -beta), base, roundings=UNMODELLED))
    return [unlanes(net, y, x.shape, (1,))]


NORMALISE: Mapping[str, Operator] = {
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _grouped),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_normalization),
    **dict.fromkeys(("LpPool", "GlobalLpPool"), _lp_pool),
    "LRN": _lrn,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance,
}
