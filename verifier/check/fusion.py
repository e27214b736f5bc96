"""Which function of which earlier tensor an elementwise operator is, and which nodes stand for it.

The rules are those of the certificate format. Behind every tensor there is a *chain* of tensors of the same
shape that it is an elementwise function of. An operator is a function of the nearest tensor that all its
operands come from (its parent), and then of the tensor behind the last link of the parent's chain that is
not affine (its root), as long as the function has at most ``LONGEST`` steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from verifier.check.functions import Function, X, call, compose, const
from verifier.check.network import Const, Kind, Lowering, Parent, Value, Var

LONGEST = 200
_KINKS = frozenset(("relu", "abs", "max", "min"))


def kinks(f: Function) -> int | None:
    """How many kinks (of affine functions) f is visibly affine in, with x; None if it is not."""
    found: list[frozenset[int] | None] = [frozenset()]
    fixed = [False]
    for i, step in enumerate(f[1:], 1):
        inner = [found[a] for a in step.args]
        free = all(fixed[a] for a in step.args)
        fixed.append(free)
        union = _union(inner)
        if free:
            found.append(frozenset())
        elif step.fn in _KINKS:
            found.append(frozenset((i,)) if union is not None and not union else None)
        elif step.fn in ("+", "-", "neg") or (step.fn == "*" and any(fixed[a] for a in step.args)):
            found.append(union)
        elif step.fn == "/" and fixed[step.args[1]]:
            found.append(inner[0])
        else:
            found.append(None)
    last = found[-1]
    return None if last is None else len(last)


def _union(parts: Sequence[frozenset[int] | None]) -> frozenset[int] | None:
    total: frozenset[int] = frozenset()
    for part in parts:
        if part is None:
            return None
        total |= part
    return total


def affine(f: Function) -> bool:
    """Whether f is visibly ``a x + b``."""
    return kinks(f) == 0


def light(f: Function) -> bool:
    """Whether f is visibly affine in x and at most one kink."""
    found = kinks(f)
    return found is not None and found <= 1


@dataclass(frozen=True, slots=True)
class Link:
    """A tensor of a chain: what lies in front of it is ``function`` of ``var``."""

    var: Var
    function: Function
    roundings: int = 0
    bent: bool = False  # whether the last link on the way here is not affine


def chain(x: Var) -> list[Link]:
    """The tensors behind ``x``, itself first, while functions stay short."""
    links = [Link(x, X)]
    while (parent := links[-1].var.parent) is not None:
        function = compose(links[-1].function, parent.function)
        if len(function) > LONGEST:
            break
        rounded = max(links[-1].roundings, parent.roundings)
        links.append(Link(parent.root, function, rounded, not affine(parent.function)))
    return links


def number_of(c: Const, shape: tuple[int, ...]) -> float | None:
    """The one exact number that a constant consists of, unless it would enlarge a tensor of ``shape``."""
    if not c.exact or not c.data.size or len(c.shape) > len(shape):
        return None
    if any(m not in (1, n) for m, n in zip(c.shape[::-1], shape[::-1], strict=False)):
        return None
    first = c.data.reshape(-1)[0]
    value = float(first)
    return value if np.isfinite(value) and value == first and bool(np.all(c.data == first)) else None


def _common(operands: Sequence[Value]) -> list[Link] | None:
    """Every operand as a function of the nearest tensor that all of them come from."""
    variables = [v for v in operands if isinstance(v, Var)]
    first = variables[0]
    if any(v.shape != first.shape for v in variables):
        return None
    chains = [{link.var.node: link for link in chain(v)} for v in variables]
    near = next((k for k in chains[0] if all(k in other for other in chains)), None)
    if near is None:
        return None
    rest, links = iter(chains), list[Link]()
    for v in operands:
        if isinstance(v, Var):
            links.append(next(rest)[near])
            continue
        number = number_of(v, first.shape)
        if number is None:
            return None
        links.append(Link(next(c[near].var for c in chains), const(number)))
    return links


Form = Callable[..., Function]


def form_of(fn: str) -> Form:
    """The operator that is one step."""

    def form(*operands: Function) -> Function:
        return call(fn, *operands)

    return form


def fuse(
    net: Lowering,
    form: Form,
    operands: Sequence[Value],
    lower: Callable[[], Var],
    *,
    roundings: int = 1,
    dtype: str | None = None,
) -> Var:
    """An elementwise operator: ``form`` of the operands, or what ``lower`` adds in its place.

    ``lower`` is used where there is no parent; where the function of the root is affine but for at most one
    kink; and for affine steps from a value that other operators read as well.
    """
    variables = [v for v in operands if isinstance(v, Var)]
    wanted = dtype or variables[0].dtype
    links = _common(operands)
    function = None if links is None else form(*(link.function for link in links))
    if links is None or function is None or len(function) > LONGEST:
        return replace(lower(), dtype=wanted)
    near = next(link.var for link, v in zip(links, operands, strict=True) if isinstance(v, Var))
    rounded = max(roundings, *(link.roundings for link in links))
    parent = Parent(near, function, rounded)
    root, whole, total = near, function, rounded
    for link in chain(near)[1:]:
        deeper = compose(function, link.function)
        if len(deeper) > LONGEST:
            break
        if link.bent:
            root, whole, total = link.var, deeper, max(rounded, link.roundings)
    if light(whole) or (affine(function) and not _absorbed(net, variables)):
        return replace(lower(), parent=parent, dtype=wanted)
    return replace(net.scalar(whole, root, roundings=total), parent=parent, dtype=wanted)


def _absorbed(net: Lowering, variables: Sequence[Var]) -> bool:
    """Whether an affine step joins the function before it: nothing else reads that value."""
    if len(variables) != 1 or variables[0].node not in net.lone:
        return False
    return net.nodes[variables[0].node].kind is Kind.SCALAR


def apply(net: Lowering, function: Function, x: Var, *, roundings: int = 1) -> Var:
    """``function(x)``."""

    def form(e: Function) -> Function:
        return compose(function, e)

    return fuse(
        net,
        form,
        [x],
        lambda: net.scalar(function, x, roundings=roundings),
        roundings=roundings,
    )


def product(net: Lowering, a: Var, b: Var, *, roundings: int = 1) -> Var:
    """``a * b``; the square where both are the same."""
    return fuse(net, times, [a, b], lambda: net.multiply(a, b, roundings=roundings), roundings=roundings)


def times(a: Function, b: Function) -> Function:
    """``a * b``; the square where both are the same."""
    return call("pow", a, value=2.0) if a == b else call("*", a, b)
