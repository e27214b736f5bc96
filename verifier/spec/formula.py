"""The formula tree both VNN-LIB readers build, and the linear algebra of its atoms.

Atoms are linear and already normalised: :class:`Bound` for a comparison of one input with a
constant (by far the most frequent atom, kept small), :class:`~verifier.spec.model.Row` for any
other. Nothing here recurses, so nesting depth is limited by memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeAlias, TypeVar

from .model import Row

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
class Linear:
    """``sum outputs[i] y_i + sum inputs[j] x_j + constant``, mutable while it is built."""

    outputs: dict[int, Fraction]
    inputs: dict[int, Fraction]
    constant: Fraction

    @property
    def is_constant(self) -> bool:
        """True when no variable occurs."""
        return not self.outputs and not self.inputs


def constant(value: Fraction) -> Linear:
    """The linear term without variables."""
    return Linear({}, {}, value)


def combine(terms: Sequence[tuple[Fraction, Linear]]) -> Linear:
    """The sum of ``factor * term``; coefficients that cancel disappear."""
    outputs: dict[int, Fraction] = {}
    inputs: dict[int, Fraction] = {}
    total = ZERO
    for factor, term in terms:
        total += factor * term.constant
        for target, source in ((outputs, term.outputs), (inputs, term.inputs)):
            for i, c in source.items():
                target[i] = target.get(i, ZERO) + factor * c
    return Linear(_nonzero(outputs), _nonzero(inputs), total)


def product(terms: Sequence[Linear]) -> Linear | None:
    """The product of terms, or None when it is not linear."""
    factor = ONE
    variable: Linear | None = None
    for term in terms:
        if term.is_constant:
            factor *= term.constant
        elif variable is None:
            variable = term
        else:
            return None
    return constant(factor) if variable is None else combine([(factor, variable)])


def _nonzero(coefficients: dict[int, Fraction]) -> dict[int, Fraction]:
    return {i: c for i, c in coefficients.items() if c}


class NumberPool:
    """One object per distinct number, so that equal boxes can be recognised by identity."""

    def __init__(self) -> None:
        self._by_value: dict[Fraction, Fraction] = {}

    def __call__(self, value: Fraction) -> Fraction:
        return self._by_value.setdefault(value, value)


def compare(op: str, left: Linear, right: Linear, pool: NumberPool) -> Formula:
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


def _at_most(term: Linear, strict: bool, pool: NumberPool) -> Formula:
    """The normalised atom ``term <= 0`` (``< 0`` when strict)."""
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
    return Row(outputs, inputs, -atom.constant, not atom.strict)


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
