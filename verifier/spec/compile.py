"""From asserted formulas to cases: input boxes, each with a disjunction of conjunctions of rows.

The top-level conjunction gives one base box and rows that every disjunct shares; only what really
has disjunctions is expanded, under a stated limit. Conjunctions with the same box end up in one
case, in the order in which they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple, TypeAlias, cast

from bounds.errors import LimitExceeded, SpecError

from .formula import ZERO, And, Bound, Formula, Not, NumberPool, Or, fold, negate_atom
from .model import Case, Row

MAX_DISJUNCTS = 1_000_000
MAX_ATOMS = 20_000_000
MAX_COPIES = 200_000_000
MAX_BOX_NUMBERS = 50_000_000

Atom: TypeAlias = Bound | Row
_Cube: TypeAlias = tuple[Atom, ...]
_Limits: TypeAlias = list[Fraction | None]
_Side: TypeAlias = tuple[Fraction, ...]

# a chain of equalities written backwards needs one pass per link; nobody writes longer ones
_IMPLY_PASSES = 50


class _Signed(NamedTuple):
    """A formula or, when ``negated``, its negation."""

    formula: Formula
    negated: bool


def compile_cases(
    asserted: Sequence[Formula],
    inputs: int,
    *,
    source: str = "",
    name_of: Callable[[int], str] = "X_{}".format,
    max_disjuncts: int = MAX_DISJUNCTS,
    open_inputs: bool = False,
) -> tuple[Case, ...]:
    """Compiles the conjunction of ``asserted``.

    Args:
        asserted: formulas that hold together when the property is violated.
        inputs: number of flat inputs.
        source: file name for messages.
        name_of: the written name of flat input i, for messages.
        max_disjuncts: safety limit on the expanded disjunction.
        open_inputs: accept inputs without bounds; their cases are partial (see ``Case``).

    Returns:
        The cases; none at all when the formulas contradict each other without any input.

    Raises:
        LimitExceeded: the disjunctive normal form would be too large.
        SpecError: an input has no lower or no upper bound (and ``open_inputs`` is not set).
    """
    base, choices = _top_level(asserted)
    limit = _Limit(max_disjuncts, source)
    expanded = [_expand(choice, limit) for choice in choices]
    cubes = _product(expanded, limit)
    return _Boxes(inputs, base, source, name_of, open_inputs=open_inputs).cases(cubes)


class _Limit:
    """Bounds the expansion: disjuncts, atoms in one result, atoms copied in all."""

    def __init__(self, disjuncts: int, source: str) -> None:
        self.disjuncts = disjuncts
        self.prefix = f"{source}: " if source else ""
        self.copies = 0

    def spend(self, disjuncts: int, atoms: int) -> None:
        """Accounts for a result of this size.

        Raises:
            LimitExceeded: it is too large, or all of them together are.
        """
        self.copies += atoms
        if disjuncts > self.disjuncts or atoms > MAX_ATOMS or self.copies > MAX_COPIES:
            size = f"{self.disjuncts} disjuncts (or {MAX_ATOMS} atoms)"
            what = f"{self.prefix}the property expands to more than {size}"
            raise LimitExceeded(
                f"{what}; split it into several properties, or write fewer nested disjunctions"
            )


def _top_level(asserted: Sequence[Formula]) -> tuple[list[Atom], list[_Signed]]:
    """Splits the top-level conjunction into its atoms and its disjunctions."""
    atoms: list[Atom] = []
    choices: list[_Signed] = []
    todo = [_Signed(f, False) for f in reversed(asserted)]
    while todo:
        node = todo.pop()
        formula, negated = node
        if isinstance(formula, Bound | Row):
            atoms.append(negate_atom(formula) if negated else formula)
        elif isinstance(formula, Not):
            todo.append(_Signed(formula.arg, not negated))
        elif isinstance(formula, Or) == negated:
            todo.extend(_Signed(f, negated) for f in reversed(formula.args))
        elif len(formula.args) == 1:
            todo.append(_Signed(formula.args[0], negated))
        else:
            choices.append(node)
    return atoms, choices


def _expand(root: _Signed, limit: _Limit) -> list[_Cube]:
    """Disjunctive normal form of one formula."""

    def join(node: _Signed, below: list[list[_Cube]]) -> list[_Cube]:
        formula, negated = node
        if isinstance(formula, Bound | Row):
            return [(negate_atom(formula) if negated else formula,)]
        if isinstance(formula, Not):
            return below[0]
        if _is_leaf(node):
            atoms = cast("_Cube", formula.args)
            return [atoms] if isinstance(formula, And) else [(a,) for a in atoms]
        if isinstance(formula, And) == negated:
            limit.spend(sum(map(len, below)), 0)
            return [cube for cubes in below for cube in cubes]
        return _product(below, limit)

    return fold(root, _children, join)


def _is_leaf(node: _Signed) -> bool:
    """Whether only atoms lie directly below: the usual case, up to 100,000 times, taken as it is."""
    formula, negated = node
    if negated or not isinstance(formula, And | Or):
        return False
    return all(isinstance(f, Bound | Row) for f in formula.args)


def _children(node: _Signed) -> Sequence[_Signed]:
    """What lies below a node; chains of one connective count as one level, or copying would be quadratic."""
    if isinstance(node.formula, Bound | Row) or _is_leaf(node):
        return ()
    if isinstance(node.formula, Not):
        return (_Signed(node.formula.arg, not node.negated),)
    conjunction = isinstance(node.formula, And) != node.negated
    below: list[_Signed] = []
    todo = [node]
    while todo:
        current = todo.pop()
        formula, negated = current
        if isinstance(formula, Not):
            todo.append(_Signed(formula.arg, not negated))
        elif isinstance(formula, And | Or) and (isinstance(formula, And) != negated) == conjunction:
            todo.extend(_Signed(f, negated) for f in reversed(formula.args))
        else:
            below.append(current)
    return below


def _product(factors: Sequence[list[_Cube]], limit: _Limit) -> list[_Cube]:
    """The conjunction of disjunctions, expanded; the first factor varies slowest."""
    limit.spend(prod(map(len, factors)), 0)
    if any(not cubes for cubes in factors):
        return []
    result: list[_Cube] = [()]
    single: list[Atom] = []
    for cubes in factors:
        if len(cubes) == 1:
            single.extend(cubes[0])
            continue
        limit.spend(0, len(cubes) * sum(map(len, result)) + len(result) * sum(map(len, cubes)))
        result = [left + right for left in result for right in cubes]
    if not single:
        return result
    shared = tuple(single)
    limit.spend(0, len(result) * len(shared) + sum(map(len, result)))
    return [shared + cube for cube in result]


class _Boxes:
    """Groups conjunctions by input box; see :func:`compile_cases`."""

    def __init__(
        self,
        inputs: int,
        base: Iterable[Atom],
        source: str,
        name_of: Callable[[int], str],
        *,
        open_inputs: bool,
    ) -> None:
        self.source = source
        self.name_of = name_of
        self.open_inputs = open_inputs
        self.lower: _Limits = [None] * inputs
        self.upper: _Limits = [None] * inputs
        self.rows = _apply(base, self.lower, self.upper)
        self.pool = NumberPool()
        self.imply(self.lower, self.upper, self.rows)

    def cases(self, cubes: Iterable[_Cube]) -> tuple[Case, ...]:
        """The cases of the given conjunctions."""
        found: dict[tuple[int, ...], tuple[_Side, _Side, list[tuple[Row, ...]], bool]] = {}
        base_key: tuple[int, ...] | None = None
        for cube in cubes:
            bare = not any(isinstance(atom, Bound) for atom in cube)
            if bare and base_key is not None:
                found[base_key][2].append((*self.rows, *_rows(cube)))
                continue
            lower, upper = self.lower.copy(), self.upper.copy()
            rows = (*self.rows, *_apply(cube, lower, upper))
            exact_lower, exact_upper, partial = self.complete(lower, upper, rows)
            # equal numbers are one object (NumberPool): identities group as values would, and hash fast
            key = (*map(id, exact_lower), *map(id, exact_upper), partial)
            found.setdefault(key, (exact_lower, exact_upper, [], partial))[2].append(rows)
            if len(found) * len(key) > MAX_BOX_NUMBERS:
                prefix = f"{self.source}: " if self.source else ""
                what = (
                    f"{prefix}the property has more than {len(found) - 1} input boxes of {len(lower)} inputs"
                )
                raise LimitExceeded(f"{what}; split it into several properties")
            if bare and _gap(self.lower) < 0 and _gap(self.upper) < 0:
                base_key = key
        return tuple(Case(low, high, tuple(rows), partial=p) for low, high, rows, p in found.values())

    def complete(self, lower: _Limits, upper: _Limits, rows: Sequence[Row]) -> tuple[_Side, _Side, bool]:
        """A bound on every side, missing ones taken from rows over inputs only; whether some were made up."""
        self.imply(lower, upper, rows)
        partial = self.open_inputs and (_gap(lower) >= 0 or _gap(upper) >= 0)
        if partial:
            self.sample(lower, upper)
        for limits, word, op in ((lower, "lower", ">="), (upper, "upper", "<=")):
            gap = _gap(limits)
            if gap >= 0:
                name = self.name_of(gap)
                missing = f"input {name} has no {word} bound, but inputs must lie in a box"
                raise SpecError(f"{missing}; add (assert ({op} {name} ...))", file=self.source)
        return tuple(v for v in lower if v is not None), tuple(v for v in upper if v is not None), partial

    def sample(self, lower: _Limits, upper: _Limits) -> None:
        """Makes up the missing bounds, in place, as far from the known ones as those are from zero."""
        reach = max((abs(v) for v in (*lower, *upper) if v is not None), default=ZERO) + 1
        for i, (lo, hi) in enumerate(zip(lower, upper, strict=True)):
            if lo is None:
                lower[i] = self.pool(-reach if hi is None else min(hi, ZERO) - reach)
            if hi is None:
                upper[i] = self.pool(reach if lo is None else max(lo, ZERO) + reach)

    def imply(self, lower: _Limits, upper: _Limits, rows: Sequence[Row]) -> None:
        """Fills missing bounds that follow from rows over inputs, in place.

        Two copies of a network are tied by equalities such as ``A[0] == X[0]``, and people bound
        only one of the two. Existing bounds are never tightened: the box stays what was written.
        """
        only_inputs: list[Row] | None = None
        for _ in range(_IMPLY_PASSES):
            if _gap(lower) < 0 and _gap(upper) < 0:
                return
            if only_inputs is None:
                only_inputs = [r for r in rows if not r.outputs and not r.products]
            if not sum(_imply_from(row, lower, upper, self.pool) for row in only_inputs):
                return


def _apply(atoms: Iterable[Atom], lower: _Limits, upper: _Limits) -> tuple[Row, ...]:
    """Intersects the box with bounds, in place; returns what the box cannot say."""
    rows: list[Row] = []
    for atom in atoms:
        if isinstance(atom, Row):
            rows.append(atom)
            continue
        index, value, is_upper, strict = atom
        limits = upper if is_upper else lower
        known = limits[index]
        if known is None or (known is not value and (value < known if is_upper else value > known)):
            limits[index] = value
        if strict:
            rows.append(atom.row())
    return tuple(rows)


def _gap(limits: _Limits) -> int:
    """Index of the first missing limit, or -1 (``None in limits`` would compare fractions with None)."""
    for i, limit in enumerate(limits):
        if limit is None:
            return i
    return -1


def _rows(cube: _Cube) -> Iterable[Row]:
    return (atom for atom in cube if isinstance(atom, Row))


def _imply_from(row: Row, lower: _Limits, upper: _Limits, pool: NumberPool) -> bool:
    """From ``sum c_j x_j + d <= 0``: ``c_i x_i <= -d - sum of the least of the others``."""
    least: list[Fraction] = []
    unknown: tuple[int, Fraction] | None = None
    for j, c in row.inputs.items():
        limit = (lower if c > 0 else upper)[j]
        if limit is not None:
            least.append(c * limit)
        elif unknown is not None:
            return False
        else:
            unknown = (j, c)
    targets = row.inputs.items() if unknown is None else (unknown,)
    total = sum(least, row.constant)
    progress = False
    for j, c in targets:
        limits, own = (upper, lower) if c > 0 else (lower, upper)
        if limits[j] is None:
            known = own[j]
            others = total if known is None else total - c * known
            limits[j] = pool(-others / c)
            progress = True
    return progress
