"""Comparisons, logic, selection and casts; truth values are the numbers 0 and 1.

Comparing rounds nothing: ``a > b`` is decided by the sign of the real difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from verifier.check.calls import BOOL, FLOATS, INTEGERS, Call, Operator
from verifier.check.elementwise import absolute, difference, extremum
from verifier.check.functions import Function, X, const
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, form_of, fuse, product
from verifier.check.movement import concat
from verifier.check.network import Array, Const, Lowering, Value, Var, guard, real

_MANTISSA: Mapping[str, int] = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}

# operator -> function of the difference, which is turned round or not, and what it does to constants
_COMPARISONS: Mapping[str, tuple[str, bool, Callable[[Array, Array], Array]]] = {
    "Greater": ("strict", False, np.greater),
    "GreaterOrEqual": ("step", False, np.greater_equal),
    "Less": ("strict", True, np.less),
    "LessOrEqual": ("step", True, np.less_equal),
    "Equal": ("zero", False, np.equal),
}
# operator -> what it does to constants, and scale and shift of x for a constant c
_LOGIC: Mapping[str, tuple[Callable[[Array, Array], Array], Callable[[Array], tuple[Array, Array]]]] = {
    "And": (np.logical_and, lambda c: (c, 0 * c)),
    "Or": (np.logical_or, lambda c: (1 - c, c)),
    "Xor": (np.logical_xor, lambda c: (1 - 2 * c, c)),
}


def _opposite(e: Function) -> Function:
    return fn("-", const(1), e)


def _nonzero(e: Function) -> Function:
    return _opposite(fn("zero", e))


def _distance(u: Function, v: Function) -> Function:
    return fn("abs", fn("-", u, v))


def _truth(data: Array) -> list[Value]:
    return [Const(np.asarray(data, np.bool_), dtype="bool")]


def _comparison(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    name, turned, on_constants = _COMPARISONS[call.op]
    if isinstance(a, Const) and isinstance(b, Const):
        return _truth(on_constants(call.needed(0), call.needed(1)))
    left, right = (b, a) if turned else (a, b)
    known = b if isinstance(b, Const) else a
    zero = isinstance(known, Const) and not known.data.any()

    def form(u: Function, v: Function) -> Function:
        p, q = (v, u) if turned else (u, v)
        if not zero:
            return fn(name, fn("-", p, q))
        return fn(name, p if isinstance(right, Const) else fn("neg", q))

    def lower() -> Var:
        return apply(net, fn(name, X), difference(net, left, right), roundings=0)

    return [fuse(net, form, [a, b], lower, roundings=0, dtype="bool")]


def _not(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        return _truth(np.logical_not(call.needed(0)))

    def lower() -> Var:
        return net.scaled(x, np.array(-1.0), np.array(1.0))

    return [fuse(net, _opposite, [x], lower, roundings=0)]


def _logic(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    on_constants, affine = _LOGIC[call.op]
    if isinstance(a, Const) and isinstance(b, Const):
        return _truth(on_constants(call.needed(0), call.needed(1)))
    if isinstance(a, Var) and isinstance(b, Var):
        if call.op != "Xor":
            return [extremum(net, a, b, "min" if call.op == "And" else "max")]

        def lower() -> Var:
            return absolute(net, net.combine([(1, a), (-1, b)]))

        return [fuse(net, _distance, [a, b], lower, roundings=0)]
    x, c = (a, b) if isinstance(b, Const) else (b, a)
    assert isinstance(x, Var) and isinstance(c, Const)
    scale, shift = affine(real(c))
    return [net.scaled(x, scale, shift)]


def _where(net: Lowering, call: Call) -> list[Value]:
    c, a, b = (call.operand(i) for i in range(3))
    if isinstance(c, Const):
        return [_selected(net, call.needed(0).astype(bool), a, b)]
    if isinstance(b, Var) and net.nan_tests.get(c.node) == b.node and a.shape in ((), b.shape):
        return [b]  # where b is a number; where it is not, nothing is proved about it
    return [
        fuse(
            net,
            form_of("where"),
            [c, a, b],
            lambda: _blend(net, c, a, b),
            roundings=0,
            dtype=a.dtype,
        )
    ]


def _blend(net: Lowering, c: Var, a: Value, b: Value) -> Var:
    """``b + c (a - b)``; for two constants ``c a + (b - c b)``, whose numbers are exact."""
    if isinstance(a, Const) and isinstance(b, Const):
        u, v = real(a), real(b)
        first = net.scaled(c, u, error=a.error, roundings=a.roundings)
        second = net.scaled(c, -v, v, error=b.error, roundings=b.roundings)
        return net.combine([(1, first), (1, second)])
    chosen = product(net, c, difference(net, a, b), roundings=0)
    if isinstance(b, Const):
        shape = np.broadcast_shapes(chosen.shape, b.shape)
        return net.shift(chosen, real(b), shape, error=b.error, roundings=b.roundings)
    return net.combine([(1, chosen), (1, b)])


def _selected(net: Lowering, chosen: Array, a: Value, b: Value) -> Value:
    """Selection by a constant condition: no arithmetic."""
    if isinstance(a, Const) and isinstance(b, Const):
        error, roundings = max(a.error, b.error), max(a.roundings, b.roundings)
        return Const(np.asarray(np.where(chosen, a.data, b.data)), error, roundings, a.dtype)
    shape = guard(np.broadcast_shapes(chosen.shape, a.shape, b.shape))
    for x, other, keep in ((a, b, chosen), (b, a, ~chosen)):
        if isinstance(x, Var) and isinstance(other, Const) and other.exact:
            index = np.broadcast_to(np.where(keep, x.index(), -1), shape)
            return net.take(x, index, np.where(index < 0, real(other), 0.0))
    u, v = net.variable(a), net.variable(b)
    both = concat(net, [net.reshape(w, (w.size,)) for w in (u, v)], 0)
    index = np.where(chosen, u.index(), v.index() + u.size)
    return replace(net.take(both, np.broadcast_to(index, shape)), dtype=a.dtype)


# ------------------------------------------------------------------ casts
def _cast(net: Lowering, call: Call) -> list[Value]:
    to = int(call.attributes.get("to", 0))
    target = {**FLOATS, **INTEGERS, BOOL: "bool"}.get(to)
    if target is None:
        raise call.refuse(f"element type {to}")
    return [converted(net, call, call.operand(0), target)]


def _cast_like(net: Lowering, call: Call) -> list[Value]:
    return [converted(net, call, call.operand(0), call.operand(1).dtype)]


def converted(net: Lowering, call: Call, x: Value, target: str) -> Value:
    """Casts that do not round are the identity; those to whole numbers and truth values are functions."""
    if isinstance(x, Const):
        if not x.exact and target != x.dtype:
            raise call.refuse("a cast of a rounded constant")
        return _converted_constant(call, x, target)
    if target == x.dtype:
        return x
    if target == "bool":

        def lower() -> Var:
            return net.scaled(apply(net, fn("zero", X), x, roundings=0), np.array(-1.0), np.array(1.0))

        return fuse(net, _nonzero, [x], lower, roundings=0, dtype="bool")
    if target in ("int32", "int64"):
        if x.dtype not in ("float32", "float64"):
            return replace(x, dtype=target)
        return replace(apply(net, fn("trunc", X), x, roundings=0), dtype=target)
    if target not in ("float32", "float64") or _MANTISSA[target] < _MANTISSA.get(x.dtype, 0):
        raise call.refuse(f"a cast of network data from {x.dtype} to {target}")
    return replace(x, dtype=target)


def _converted_constant(call: Call, x: Const, target: str) -> Const:
    if target == "bool":
        return Const(x.data != 0, dtype=target)
    if target == "bfloat16":
        raise call.refuse("a cast to bfloat16")
    if target in _MANTISSA:
        with np.errstate(over="ignore"):
            return Const(x.data.astype(target).astype(np.float64), dtype=target)
    if x.is_float and not np.all(np.abs(x.data) < 2.0**63):
        raise call.refuse("a cast that overflows")
    return Const(np.trunc(x.data).astype(np.int64).astype(target).astype(np.int64), dtype=target)


def _is_strange(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const) or call.op == "IsInf":
        return _truth({"IsInf": np.isinf, "IsNaN": np.isnan}[call.op](call.needed(0)))
    test = net.variable(Const(np.zeros(x.shape, np.bool_), dtype="bool"))
    net.nan_tests[test.node] = x.node
    return [test]


LOGIC: Mapping[str, Operator] = {
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(_LOGIC, _logic),
    **dict.fromkeys(("IsInf", "IsNaN"), _is_strange),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Not": _not,
    "Where": _where,
}
