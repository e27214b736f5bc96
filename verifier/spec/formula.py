"""The formula tree both VNN-LIB readers build, and the algebra of its atoms.

Atoms are polynomial and already normalised: :class:`Bound` for a comparison of one input with a
constant (by far the most frequent atom, kept small), :class:`~verifier.spec.model.Row` for any
other. Nothing here recurses, so nesting depth is limited by memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeAlias, TypeVar

from .model import Monomial, Power, Row

# far beyond what anybody writes by hand, and little enough to multiply out at once
MAX_DEGREE = 200
MAX_TERMS = 100_000

ZERO = Fraction(0)
ONE = Fraction(1)
_EMPTY: Mapping[int, Fraction] = {}


class Bound(NamedTuple):
    """``x_input <= value`` (``upper``) or ``x_input >= value``; strict when ``strict``."""

    input: int
    value: Fraction
    upper: bool
    strict: bool

    def row(self) -> Row:
        """The same atom as a row."""
        sign = ONE if self.upper else -ONE
        return Row(_EMPTY, {self.input: sign}, -sign * self.value, self.strict)


@dataclass(slots=True, eq=False)
class And:
    """Conjunction; with no arguments it is true."""

    args: tuple[Formula, ...]


@dataclass(slots=True, eq=False)
class Or:
    """Disjunction; with no arguments it is false."""

    args: tuple[Formula, ...]


@dataclass(slots=True, eq=False)
class Not:
    """Negation, kept lazy: readers would otherwise rewrite nested negations again and again."""

    arg: Formula


Formula: TypeAlias = Bound | Row | And | Or | Not

TRUE = And(())
FALSE = Or(())


@dataclass(slots=True)
class Term:
    """A polynomial ``sum outputs[i] y_i + sum inputs[j] x_j + sum products[m] m + constant``.

    Mutable while it is built.
    """

    outputs: dict[int, Fraction]
    inputs: dict[int, Fraction]
    constant: Fraction
    products: dict[Monomial, Fraction] = field(default_factory=dict[Monomial, Fraction])

    @property
    def is_constant(self) -> bool:
        """True when no variable occurs."""
        return not self.outputs and not self.inputs and not self.products

    @property
    def size(self) -> int:
        """Number of monomials, the constant included."""
        return len(self.outputs) + len(self.inputs) + len(self.products) + 1

    @property
    def degree(self) -> int:
        """Largest total degree of a monomial."""
        if self.products:
            return max(sum(p.exponent for p in monomial) for monomial in self.products)
        return int(bool(self.outputs or self.inputs))


def constant(value: Fraction) -> Term:
    """The term without variables."""
    return Term({}, {}, value)


def combine(terms: Sequence[tuple[Fraction, Term]]) -> Term:
    """The sum of ``factor * term``; coefficients that cancel disappear."""
    outputs: dict[int, Fraction] = {}
    inputs: dict[int, Fraction] = {}
    products: dict[Monomial, Fraction] = {}
    total = ZERO
    for factor, term in terms:
        total += factor * term.constant
        for target, source in ((outputs, term.outputs), (inputs, term.inputs)):
            for i, c in source.items():
                target[i] = target.get(i, ZERO) + factor * c
        for m, c in term.products.items():
            products[m] = products.get(m, ZERO) + factor * c
    return Term(_nonzero(outputs), _nonzero(inputs), total, _nonzero(products))


def product(terms: Sequence[Term]) -> Term:
    """The product of terms, multiplied out; no terms give one.

    Raises:
        OverflowError: the result would have too high a degree or too many terms.
    """
    factor = ONE
    result: Term | None = None
    for term in terms:
        if term.is_constant:
            factor *= term.constant
        elif result is None:
            result = term
        else:
            result = _times(result, term)
    return constant(factor) if result is None else combine([(factor, result)])


def _times(left: Term, right: Term) -> Term:
    if left.degree + right.degree > MAX_DEGREE or left.size * right.size > MAX_TERMS:
        raise OverflowError
    sums: dict[Monomial, Fraction] = {}
    for a, c in _monomials(left):
        for b, d in _monomials(right):
            m = _merge(a, b)
            sums[m] = sums.get(m, ZERO) + c * d
    result = constant(sums.pop((), ZERO))
    for m, c in _nonzero(sums).items():
        if len(m) == 1 and m[0].exponent == 1:
            (result.outputs if m[0].output else result.inputs)[m[0].element] = c
        else:
            result.products[m] = c
    return result


def _monomials(term: Term) -> list[tuple[Monomial, Fraction]]:
    """All monomials with their coefficients; the empty one stands for the constant."""
    found: list[tuple[Monomial, Fraction]] = [((), term.constant)] if term.constant else []
    found += [((Power(False, i, 1),), c) for i, c in term.inputs.items()]
    found += [((Power(True, i, 1),), c) for i, c in term.outputs.items()]
    return found + list(term.products.items())


def _merge(a: Monomial, b: Monomial) -> Monomial:
    exponents: dict[tuple[bool, int], int] = {}
    for output, index, exponent in (*a, *b):
        exponents[output, index] = exponents.get((output, index), 0) + exponent
    return tuple(Power(*variable, exponents[variable]) for variable in sorted(exponents))


Key = TypeVar("Key", int, Monomial)


def _nonzero(coefficients: dict[Key, Fraction]) -> dict[Key, Fraction]:
    return {i: c for i, c in coefficients.items() if c}


class NumberPool:
    """One object per distinct number, so that equal boxes can be recognised by identity."""

    def __init__(self) -> None:
        self._by_value: dict[Fraction, Fraction] = {}

    def __call__(self, value: Fraction) -> Fraction:
        return self._by_value.setdefault(value, value)


def compare(op: str, left: Term, right: Term, pool: NumberPool) -> Formula:
    """The formula ``left op right`` for one of ``<= < >= > = == !=``."""
    if op in {">=", ">"}:
        return _at_most(combine([(ONE, right), (-ONE, left)]), op == ">", pool)
    difference = combine([(ONE, left), (-ONE, right)])
    if op in {"<=", "<"}:
        return _at_most(difference, op == "<", pool)
    opposite = combine([(-ONE, difference)])
    strict = op == "!="
    pair = (_at_most(difference, strict, pool), _at_most(opposite, strict, pool))
    return Or(pair) if strict else And(pair)


def _at_most(term: Term, strict: bool, pool: NumberPool) -> Formula:
    """The normalised atom ``term <= 0`` (``< 0`` when strict)."""
    if term.products:
        return Row(term.outputs, term.inputs, term.constant, strict, term.products)
    if term.outputs or len(term.inputs) > 1:
        return Row(term.outputs, term.inputs, term.constant, strict)
    if not term.inputs:
        return TRUE if (term.constant < 0 or (term.constant == 0 and not strict)) else FALSE
    ((index, coefficient),) = term.inputs.items()
    return Bound(index, pool(-term.constant / coefficient), coefficient > 0, strict)


def negate_atom(atom: Bound | Row) -> Bound | Row:
    """The negation of an atom, again an atom."""
    if isinstance(atom, Bound):
        return Bound(atom.input, atom.value, not atom.upper, not atom.strict)
    outputs = {i: -c for i, c in atom.outputs.items()}
    inputs = {i: -c for i, c in atom.inputs.items()}
    if not atom.products:
        return Row(outputs, inputs, -atom.constant, not atom.strict)
    products = {m: -c for m, c in atom.products.items()}
    return Row(outputs, inputs, -atom.constant, not atom.strict, products)


Node = TypeVar("Node")
Result = TypeVar("Result")


def fold(
    root: Node,
    children: Callable[[Node], Sequence[Node]],
    join: Callable[[Node, list[Result]], Result],
) -> Result:
    """Post-order reduction without recursion: ``join(node, results of its children)``."""
    todo: list[tuple[Node, int]] = [(root, -1)]
    done: list[Result] = []
    while todo:
        node, count = todo.pop()
        if count >= 0:
            split = len(done) - count
            results = done[split:]
            del done[split:]
            done.append(join(node, results))
            continue
        below = children(node)
        todo.append((node, len(below)))
        todo.extend((child, -1) for child in reversed(below))
    return done[0]


def evaluate(formula: Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    """Exact truth of a formula at a point."""
    xs, ys = dict(enumerate(x)), dict(enumerate(y))

    def join(node: Formula, below: list[bool]) -> bool:
        if isinstance(node, And):
            return all(below)
        if isinstance(node, Or):
            return any(below)
        if isinstance(node, Not):
            return not below[0]
        row = node.row() if isinstance(node, Bound) else node
        return row.holds(row.value(xs, ys))

    return fold(formula, _children, join)


def _children(node: Formula) -> Sequence[Formula]:
    if isinstance(node, And | Or):
        return node.args
    return (node.arg,) if isinstance(node, Not) else ()
