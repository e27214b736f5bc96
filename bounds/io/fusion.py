"""Which function of which earlier tensor a value is: the importer's bookkeeping for fusion.

Every elementwise operator whose operands are tensors of the result's full shape, and constants that are
one exact number, is a function of the nearest tensor that all its operands come from. Links of such
functions form a *chain* behind every tensor. The rules of this module are part of the certificate
format: a reader of the same model has to find the same functions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bounds.expression import Expr, Fn, X, const, nodes
from bounds.io.values import Const, Provenance, Value, Var
from bounds.shapes import Shape, broadcasts_to

MAX_NODES = 200  # expressions with more distinct parts are not formed

_REMEMBERED = 4096

_LINEAR = frozenset({Fn.ADD, Fn.SUB, Fn.NEG})
_KINKS = frozenset({Fn.RELU, Fn.ABS, Fn.MAX, Fn.MIN})


class Algebra:
    """Interned expressions: equal ones are the same object, so that sharing never costs exponential time."""

    def __init__(self) -> None:
        self._known: dict[tuple[Fn, tuple[int, ...], float], Expr] = {}
        self._ids: set[int] = set()
        self.chains: dict[tuple[int, int], list[Step]] = {}  # by node and parent (which the steps keep alive)
        self.x = self.intern(X)

    def intern(self, e: Expr) -> Expr:
        """The one object that stands for ``e``."""
        done: dict[int, Expr] = {}

        def walk(part: Expr) -> Expr:
            if id(part) in self._ids:
                return part
            found = done.get(id(part))
            if found is None:
                found = done[id(part)] = self._make(part, tuple(walk(a) for a in part.args))
            return found

        return walk(e)

    def compose(self, outer: Expr, inner: Expr) -> Expr:
        """``outer(inner(x))`` of interned expressions."""
        if inner is self.x:
            return outer
        done: dict[int, Expr] = {}

        def walk(part: Expr) -> Expr:
            found = done.get(id(part))
            if found is None:
                if part.fn is Fn.X:
                    found = inner
                else:
                    found = self._make(part, tuple(walk(a) for a in part.args)) if part.args else part
                done[id(part)] = found
            return found

        return walk(outer)

    def _make(self, like: Expr, args: tuple[Expr, ...]) -> Expr:
        key = (like.fn, tuple(map(id, args)), like.value)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Expr(like.fn, args, like.value) if args else like
            self._ids.add(id(found))
        return found


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor of a chain: the value behind which it lies is ``expr`` of ``var``.

    Attributes:
        roundings: the largest count of float32 roundings of one link on the way.
        nonlinear: whether the last link on the way to ``var`` is anything but affine.
    """

    var: Var
    expr: Expr
    roundings: int = 0
    nonlinear: bool = False

    def through(self, algebra: Algebra, last: Provenance) -> Step:
        """The same step behind a value of which the present one is ``last``."""
        rounded = max(self.roundings, last.roundings)
        return Step(self.var, algebra.compose(last.expr, self.expr), rounded, self.nonlinear)


@dataclass(frozen=True, slots=True)
class Link:
    """What fusion finds out about one operator.

    Attributes:
        parent: the operator as a function of the nearest common tensor.
        root: the tensor that it is a function of in the end.
        expr: that function.
        roundings: as in ``Step``.
    """

    parent: Provenance
    root: Var
    expr: Expr
    roundings: int


Form = Callable[..., Expr]


def link(algebra: Algebra, form: Form, operands: Sequence[Value], roundings: int) -> Link | None:
    """Finds the function that ``form`` of the operands is; None where they have no common tensor.

    The nearest tensor common to all operands is the parent. If behind it the chain has links that are not
    affine, the root is the tensor behind the last of these, as far as the expression stays small.
    """
    steps = _common(algebra, operands)
    if steps is None:
        return None
    expr = algebra.intern(form(*(s.expr for s in steps)))
    if size(expr) > MAX_NODES:
        return None
    source = next(s.var for s, v in zip(steps, operands, strict=True) if isinstance(v, Var))
    rounded = max(roundings, *(s.roundings for s in steps))
    parent = Provenance(source, expr, rounded)
    for step in reversed(_small([s.through(algebra, parent) for s in chain(algebra, source)])):
        if step.nonlinear:
            return Link(parent, step.var, step.expr, step.roundings)
    return Link(parent, source, expr, rounded)


def _common(algebra: Algebra, operands: Sequence[Value]) -> list[Step] | None:
    """Every operand as a function of the nearest tensor that all of them come from, if there is one."""
    variables = [v for v in operands if isinstance(v, Var)]
    first = variables[0]
    if any(v.shape != first.shape or v.masked is not None for v in variables):
        return None
    chains = [{s.var.node: s for s in reversed(chain(algebra, v))} for v in variables]
    near = next((s.var.node for s in chain(algebra, first) if all(s.var.node in c for c in chains)), None)
    if near is None:
        return None
    rest = iter(chains)
    steps: list[Step] = []
    for v in operands:
        if isinstance(v, Const):
            number = number_of(v, first.shape)
            if number is None:
                return None
            steps.append(Step(first, algebra.intern(const(number))))
        else:
            steps.append(next(rest)[near])
    return steps


def chain(algebra: Algebra, x: Var) -> list[Step]:
    """The tensors behind ``x``, itself first, while the expressions stay small."""
    parent = x.parent
    if parent is None:
        return [Step(x, algebra.x)]
    found = algebra.chains.get((x.node, id(parent)))
    if found is None:
        behind = [step.through(algebra, parent) for step in chain(algebra, parent.root)]
        behind[0] = replace(behind[0], nonlinear=not is_affine(parent.expr))
        found = [Step(x, algebra.x), *_small(behind)]
        if len(algebra.chains) > _REMEMBERED:
            algebra.chains.clear()
        algebra.chains[x.node, id(parent)] = found
    return found


def _small(steps: list[Step]) -> list[Step]:
    """The steps before the first one with a large expression (they only grow along a chain)."""
    return steps[: bisect_right(steps, MAX_NODES, key=lambda step: size(step.expr))]


def number_of(c: Const, shape: Shape) -> float | None:
    """The one exact number that a constant consists of, unless it would enlarge a tensor of ``shape``."""
    if not c.exact or not c.data.size or not broadcasts_to(c.shape, shape):
        return None
    first = c.data.reshape(-1)[0]
    value = float(first)
    return value if np.isfinite(value) and value == first and bool(np.all(c.data == first)) else None


def size(e: Expr) -> int:
    """Number of distinct parts of an interned expression."""
    seen: set[int] = set()
    waiting = [e]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            waiting += part.args
    return len(seen)


def is_affine(e: Expr) -> bool:
    """Whether ``e`` is visibly ``a x + b``."""
    found = kinks(e)
    return found is not None and not found


def is_light(e: Expr) -> bool:
    """Whether ``e`` is visibly affine in x and at most one of relu, abs, max, min of affine functions."""
    found = kinks(e)
    return found is not None and len(found) <= 1


def kinks(e: Expr) -> frozenset[Expr] | None:
    """The kinks (of affine functions) in which, with x, ``e`` is visibly affine; None if it is not."""
    free: frozenset[Expr] = frozenset()
    found: dict[Expr, frozenset[Expr] | None] = {}
    fixed: set[Expr] = set()  # parts without x
    for part in nodes(e):
        inner = [found[a] for a in part.args]
        constant = part.fn is not Fn.X and all(a in fixed for a in part.args)
        if constant:
            fixed.add(part)
        if constant or part.fn is Fn.X:
            found[part] = free
        elif part.fn in _KINKS:
            found[part] = frozenset({part}) if all(k is not None and not k for k in inner) else None
        elif part.fn in _LINEAR or (part.fn is Fn.MUL and any(a in fixed for a in part.args)):
            found[part] = _union(inner)
        elif part.fn is Fn.DIV and part.args[1] in fixed:
            found[part] = inner[0]
        else:
            found[part] = None
    return found[e]


def _union(parts: Sequence[frozenset[Expr] | None]) -> frozenset[Expr] | None:
    total: frozenset[Expr] = frozenset()
    for part in parts:
        if part is None:
            return None
        total |= part
    return total


def operation(fn: Fn) -> Form:
    """The form of one operation."""

    def form(*args: Expr) -> Expr:
        return Expr(fn, args)

    return form


def product_form(a: Expr, b: Expr) -> Expr:
    """``a * b``; a square where both are the same (interned) expression."""
    return a**2 if a is b else a * b
