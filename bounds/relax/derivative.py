"""Symbolic derivatives, kept small and with provable signs.

Every rewriting is an identity over the reals wherever both sides are defined. Sums pull out common factors:
the second derivative of x*sigmoid(x) becomes ``s(x) s(-x) (2 + x (s(-x) - s(x)))``, whose sign in the tails
follows from interval arithmetic, which it would not from the four-term sum. Numbers are folded only when that
is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache

from bounds.expression import Expr, Fn, X, call, const, nodes

ZERO, ONE, TWO = const(0), const(1), const(2)
PI = Expr(Fn.MUL, (const(4), call(Fn.ATAN, ONE)))  # exactly pi, as an expression: no float is
MAX_TERMS = 4  # floats a folded coefficient may take

Factors = dict[Expr, int]


def _representable(value: Fraction) -> bool:
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False


def number(value: Fraction) -> Expr | None:
    """An expression for a dyadic rational: a float or a sum of few; None when that does not work."""
    terms: list[Expr] = []
    rest = value
    while rest != 0 and len(terms) < MAX_TERMS:
        try:
            part = float(rest)
        except OverflowError:
            return None
        if part == 0:
            return None
        terms.append(const(part))
        rest -= Fraction(part)
    if rest != 0:
        return None
    if not terms:
        return ZERO
    total = terms[-1]
    for t in reversed(terms[:-1]):
        total = Expr(Fn.ADD, (t, total))
    return total


def _factors(e: Expr) -> tuple[Fraction, Factors]:
    """``e`` as a dyadic coefficient times powers of other expressions."""
    if e.fn is Fn.CONST:
        return Fraction(e.value), {}
    if e.fn is Fn.NEG:
        c, f = _factors(e.args[0])
        return -c, f
    if e.fn is Fn.MUL:
        c, f = _factors(e.args[0])
        d, g = _factors(e.args[1])
        return c * d, _join(f, g, 1)
    if e.fn is Fn.DIV:
        c, f = _factors(e.args[0])
        d, g = _factors(e.args[1])
        if d != 0 and _dyadic(1 / d):
            return c / d, _join(f, g, -1)
        bottom = e.args[1]
        return c, _join(f, {bottom: 1}, -1)
    if e.fn is Fn.POW and e.value.is_integer():
        return Fraction(1), {e.args[0]: int(e.value)}
    return Fraction(1), {e: 1}


def _dyadic(value: Fraction) -> bool:
    return value.denominator & (value.denominator - 1) == 0


def _join(f: Factors, g: Factors, sign: int) -> Factors:
    out = dict(f)
    for base, power in g.items():
        out[base] = out.get(base, 0) + sign * power
        if out[base] == 0:
            del out[base]
    return out


def _build(c: Fraction, f: Factors) -> Expr | None:
    coefficient = number(c)
    if coefficient is None:
        return None
    if coefficient == ZERO:
        return ZERO
    f = _sigmoids(_tangents(f))
    top = [b if p == 1 else Expr(Fn.POW, (b,), float(p)) for b, p in f.items() if p > 0]
    bottom = [b if p == -1 else Expr(Fn.POW, (b,), float(-p)) for b, p in f.items() if p < 0]
    negative = coefficient == const(-1)
    out = _chain(top if coefficient == ONE or negative else [coefficient, *top])
    if negative:
        out = Expr(Fn.NEG, (out,))
    return Expr(Fn.DIV, (out, _chain(bottom))) if bottom else out


def _tangents(f: Factors) -> Factors:
    """sinh / cosh as tanh, which does not overflow."""
    out = dict(f)
    for base, p in f.items():
        if base.fn is Fn.SINH and p > 0:
            below = call(Fn.COSH, *base.args)
            n = min(p, -out.get(below, 0))
            if n > 0:
                out = _join(out, {base: n, below: -n}, -1)
                out = _join(out, {call(Fn.TANH, *base.args): n}, 1)
    return out


def _sigmoids(f: Factors) -> Factors:
    """Powers of 1 / (1 + exp(-a)), however they are spelled, as powers of sigmoid(a)."""
    out = dict(f)
    for base, p in f.items():
        inner = _exponent(base) if p < 0 else None
        if inner is not None:
            out = _join(out, {base: p}, -1)
            out = _join(out, {call(Fn.SIGMOID, negative(inner)): -p}, 1)
    return out


def _chain(parts: list[Expr]) -> Expr:
    if not parts:
        return ONE
    # constants first, so that they are multiplied as constants
    parts = sorted(parts, key=lambda p: any(q.fn is Fn.X for q in nodes(p)))
    out = parts[0]
    for p in parts[1:]:
        out = Expr(Fn.MUL, (out, p))
    return out


def times(a: Expr, b: Expr) -> Expr:
    """``a * b``, simplified."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    if b == ONE:
        return a
    c, f = _factors(a)
    d, g = _factors(b)
    built = _build(c * d, _join(f, g, 1))
    return Expr(Fn.MUL, (a, b)) if built is None else built


def over(a: Expr, b: Expr) -> Expr:
    """``a / b``, simplified."""
    if a == ZERO:
        return ZERO
    if b == ONE:
        return a
    c, f = _factors(Expr(Fn.DIV, (a, b)))
    built = _build(c, f)
    return Expr(Fn.DIV, (a, b)) if built is None else built


def negative(a: Expr) -> Expr:
    """``-a``, simplified."""
    return times(const(-1), a)


def plus(a: Expr, b: Expr) -> Expr:
    """``a + b``, with common factors pulled out."""
    if a == ZERO:
        return b
    if b == ZERO:
        return a
    c, f = _factors(a)
    d, g = _factors(b)
    common: Factors = {}
    for base, p in f.items():
        q = g.get(base, 0)
        if p * q > 0:
            common[base] = p if abs(p) <= abs(q) else q
    f, g = _join(f, common, -1), _join(g, common, -1)
    odd = _sigmoid_difference(c, f, d, g)
    if odd is not None:
        return times(_build(Fraction(1), common) or ONE, odd)
    if f == g:
        built = _build(c + d, _join(f, common, 1))
        if built is not None:
            return built
    left, right = _build(c, f), _build(d, g)
    if left is None or right is None:
        return Expr(Fn.ADD, (a, b))
    outer = _build(Fraction(1), common)
    inner = _merge(left, right)
    return inner if outer is None or outer == ONE else times(outer, inner)


def _sigmoid_difference(c: Fraction, f: Factors, d: Fraction, g: Factors) -> Expr | None:
    """s(a) - s(-a) as tanh(a / 2): zero at zero without cancellation."""
    if c != -d or len(f) != 1 or len(g) != 1 or set(f.values()) != {1} or set(g.values()) != {1}:
        return None
    (p,), (q,) = f, g
    if p.fn is not Fn.SIGMOID or q.fn is not Fn.SIGMOID or q.args[0] != negative(p.args[0]):
        return None
    coefficient = number(c)
    return None if coefficient is None else times(coefficient, call(Fn.TANH, times(const(0.5), p.args[0])))


def _merge(left: Expr, right: Expr) -> Expr:
    """A sum in which plain numbers meet: 1 + (1 + x) is 2 + x."""
    if right.fn is Fn.CONST:
        left, right = right, left
    if left.fn is Fn.CONST and right.fn is Fn.ADD and right.args[0].fn is Fn.CONST:
        total = number(Fraction(left.value) + Fraction(right.args[0].value))
        if total is not None:
            return right.args[1] if total == ZERO else Expr(Fn.ADD, (total, right.args[1]))
    if right.fn is Fn.NEG:
        return Expr(Fn.SUB, (left, right.args[0]))
    return Expr(Fn.ADD, (left, right))


def minus(a: Expr, b: Expr) -> Expr:
    """``a - b``."""
    return plus(a, negative(b))


def power(a: Expr, p: float) -> Expr:
    """``a ** p``."""
    if p == 0:
        return ONE
    if p == 1:
        return a
    if a.fn is Fn.CONST and float(p).is_integer() and p > 0:
        value = Fraction(a.value) ** int(p)
        if _representable(value):
            return const(float(value))
    return Expr(Fn.POW, (a,), float(p))


def recognise(e: Expr) -> Expr:
    """The same function with the same domain, sigmoid and softplus written as such."""
    done: dict[Expr, Expr] = {}
    for part in nodes(e):
        args = tuple(done[a] for a in part.args)
        inner = _exponent(args[-1]) if part.fn in (Fn.DIV, Fn.LOG) else None
        if inner is None:
            done[part] = Expr(part.fn, args, part.value) if args else part
        elif part.fn is Fn.LOG:
            done[part] = call(Fn.SOFTPLUS, inner)
        else:
            sigmoid = call(Fn.SIGMOID, negative(inner))
            done[part] = sigmoid if args[0] == ONE else Expr(Fn.MUL, (args[0], sigmoid))
    return done[e]


def _exponent(e: Expr) -> Expr | None:
    """b if the expression is 1 + exp(b)."""
    if e.fn is Fn.ADD and ONE in e.args:
        other = e.args[1] if e.args[0] == ONE else e.args[0]
        if other.fn is Fn.EXP:
            return other.args[0]
    return None


def simplify(e: Expr) -> Expr:
    """The same function wherever ``e`` is defined, rebuilt by the rules above."""
    done: dict[Expr, Expr] = {}
    for part in nodes(e):
        args = tuple(done[a] for a in part.args)
        rule = _REBUILD.get(part.fn)
        if rule is not None:
            done[part] = rule(*args)
        elif part.fn is Fn.POW:
            done[part] = power(args[0], part.value)
        else:
            done[part] = Expr(part.fn, args, part.value) if args else part
    return done[e]


_REBUILD: Mapping[Fn, Callable[..., Expr]] = {
    Fn.ADD: plus,
    Fn.SUB: minus,
    Fn.MUL: times,
    Fn.DIV: over,
    Fn.NEG: negative,
}


def _of_power(e: Expr, a: Expr) -> Expr:
    p = e.value
    below = Fraction(p) - 1
    if _representable(below):
        return times(const(p), power(a, float(below)))
    return times(const(p), over(e, a))  # the exponent p - 1 is no float


def _square(a: Expr) -> Expr:
    return power(a, 2)


_OUTER: Mapping[Fn, Callable[[Expr, Expr], Expr]] = {
    Fn.EXP: lambda e, _: e,
    Fn.LOG: lambda _, a: over(ONE, a),
    Fn.SQRT: lambda e, _: over(const(0.5), e),
    Fn.POW: _of_power,
    Fn.SIN: lambda _, a: call(Fn.COS, a),
    Fn.COS: lambda _, a: negative(call(Fn.SIN, a)),
    Fn.TAN: lambda _, a: power(call(Fn.COS, a), -2),
    Fn.TANH: lambda _, a: power(call(Fn.COSH, a), -2),
    Fn.SIGMOID: lambda e, a: times(e, call(Fn.SIGMOID, negative(a))),
    Fn.SOFTPLUS: lambda _, a: call(Fn.SIGMOID, a),
    Fn.ERF: lambda _, a: times(over(TWO, call(Fn.SQRT, PI)), call(Fn.EXP, negative(_square(a)))),
    Fn.ATAN: lambda _, a: over(ONE, plus(ONE, _square(a))),
    Fn.ASIN: lambda _, a: power(minus(ONE, _square(a)), -0.5),
    Fn.ACOS: lambda _, a: negative(power(minus(ONE, _square(a)), -0.5)),
    Fn.SINH: lambda _, a: call(Fn.COSH, a),
    Fn.COSH: lambda _, a: call(Fn.SINH, a),
    Fn.ASINH: lambda _, a: power(plus(ONE, _square(a)), -0.5),
    Fn.ACOSH: lambda _, a: power(minus(_square(a), ONE), -0.5),
    Fn.ATANH: lambda _, a: over(ONE, minus(ONE, _square(a))),
    Fn.ABS: lambda _, a: call(Fn.SIGN, a),
    Fn.RELU: lambda _, a: call(Fn.STRICT, a),
}
FLAT = frozenset({Fn.SIGN, Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND, Fn.STEP, Fn.STRICT, Fn.ZERO})
"""Piecewise constant: derivative 0 between jumps."""


@lru_cache(maxsize=4096)
def derivative(e: Expr) -> Expr:
    """The derivative with respect to the variable; at kinks one side's, at jumps as if there were none."""
    done: dict[Expr, Expr] = {}
    for part in nodes(e):
        done[part] = _rule(part, [done[a] for a in part.args])
    return done[e]


def _rule(e: Expr, d: list[Expr]) -> Expr:
    a = e.args
    if e.fn is Fn.X:
        return ONE
    if e.fn is Fn.CONST or e.fn in FLAT or all(x == ZERO for x in d):
        return ZERO
    if e.fn in (Fn.ADD, Fn.SUB):
        return plus(d[0], d[1]) if e.fn is Fn.ADD else minus(d[0], d[1])
    if e.fn is Fn.NEG:
        return negative(d[0])
    if e.fn is Fn.MUL:
        return plus(times(d[0], a[1]), times(a[0], d[1]))
    if e.fn is Fn.DIV:
        return over(minus(d[0], times(e, d[1])), a[1])
    if e.fn in (Fn.MAX, Fn.MIN):
        first = Expr(Fn.SUB, a if e.fn is Fn.MAX else (a[1], a[0]))
        return call(Fn.WHERE, call(Fn.STEP, first), d[0], d[1])
    if e.fn is Fn.WHERE:
        return call(Fn.WHERE, a[0], d[1], d[2])
    return times(_OUTER[e.fn](e, a[0]), d[0])


def slope_and_offset(e: Expr) -> tuple[Fraction, Fraction] | None:
    """``(a, b)`` when the expression is visibly ``a x + b``, exactly."""
    if e is X or e.fn is Fn.X:
        return Fraction(1), Fraction(0)
    if e.fn is Fn.CONST:
        return Fraction(0), Fraction(e.value)
    if e.fn not in (Fn.ADD, Fn.SUB, Fn.NEG, Fn.MUL, Fn.DIV):
        return None
    parts = [slope_and_offset(a) for a in e.args]
    if any(p is None for p in parts):
        return None
    nothing = Fraction(0), Fraction(0)
    (a, b), (c, d) = [p or nothing for p in [*parts, None]][:2]
    if e.fn is Fn.NEG:
        return -a, -b
    if e.fn is Fn.ADD:
        return a + c, b + d
    if e.fn is Fn.SUB:
        return a - c, b - d
    if e.fn is Fn.MUL:
        return (a * d + c * b, b * d) if a == 0 or c == 0 else None
    return (a / d, b / d) if c == 0 and d != 0 else None


@lru_cache(maxsize=1024)
def affine_part(e: Expr) -> tuple[float, Expr]:
    """``(a, r)`` with ``e = a x + r``: what can be taken out of the sums it is made of."""
    slope, rest = _take_out(e)
    if slope == 0 or not _representable(slope):
        return 0.0, e
    return float(slope), rest


def _take_out(e: Expr) -> tuple[Fraction, Expr]:
    affine = slope_and_offset(e)
    if affine is not None:
        offset = number(affine[1])
        return (Fraction(0), e) if offset is None else (affine[0], offset)
    if e.fn in (Fn.ADD, Fn.SUB):
        (a, p), (b, q) = (_take_out(part) for part in e.args)
        return (a + b if e.fn is Fn.ADD else a - b), Expr(e.fn, (p, q))
    if e.fn is Fn.NEG:
        a, p = _take_out(e.args[0])
        return -a, Expr(Fn.NEG, (p,))
    return Fraction(0), e
