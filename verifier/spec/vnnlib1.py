"""Reader for VNN-LIB 1.0, the S-expression language of the verification competitions up to 2024.

One regular expression splits the text; its first alternative takes a whole comparison of two words
at once, because files consist of little else (up to a million of them). A stack machine does the
rest, so nesting may be as deep as memory allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn, TypeAlias, cast

from bounds.errors import SpecError

from .exact import MAX_DIGITS, MAX_EXPONENT, decimal_literal
from .formula import (
    ONE,
    ZERO,
    And,
    Bound,
    Formula,
    Not,
    NumberPool,
    Or,
    Term,
    combine,
    compare,
    constant,
    product,
)
from .model import Row

_TOKEN = re.compile(
    r"\(\s*([<>]=?|=)\s+([^\s();]+)\s+([^\s();]+)\s*(\))"  # groups 1-4: comparison of two words
    r"|\(\s*assert\s+\(\s*([<>]=?|=)\s+([^\s();]+)\s+([^\s();]+)\s*\)\s*(\))"  # groups 5-8: asserted
    r"|\(\s*declare-const\s+([^\s();]+)\s+([^\s();]+)\s*(\))"  # groups 9-11: declaration
    r"|\(\s*([^\s();]*)"  # group 12: an opening parenthesis and the word after it
    r"|(\))"  # group 13
    r"|([^\s();]+)"  # group 14: any other word
    r"|;[^\n]*"
)
_COMPARISON, _ASSERTED, _DECLARED, _OPEN, _CLOSE, _WORD = 4, 8, 11, 12, 13, 14

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_COMPARISONS = {"<=", ">=", "<", ">", "="}
# repetitive files repeat within this many distinct words; remembering all of the others eats memory
_MEMORY = 1 << 16
_MINUS_ONE = -ONE
_NO_TERMS: Mapping[int, Fraction] = {}
# commands of the surrounding SMT-LIB language that say nothing about the property
_IGNORED = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}
_FORMULA_HEADS = {"and", "or", "not", "=>"}
_FORMULA_TYPES = (Bound, Row, And, Or, Not)


@dataclass(slots=True)
class _Word:
    """A word not yet looked up: it may be a variable, a number or a sort."""

    text: str
    at: int


class _Done:
    """The value of a finished command."""


_DONE = _Done()
_Value: TypeAlias = Formula | Term | _Word | _Done
_Words: TypeAlias = tuple[str, str, str]


@dataclass(slots=True)
class _Frame:
    """An open parenthesis: the word after it, its offset, the values read since."""

    head: str
    at: int
    args: list[_Value]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file says: numbers of inputs and outputs, and the asserted formulas."""

    inputs: int
    outputs: int
    asserted: tuple[Formula, ...]


def parse(text: str, source: str = "") -> Parsed:
    """Reads VNN-LIB 1.0 text.

    Args:
        text: the property.
        source: its file name, for messages.

    Raises:
        SpecError: with line and column of the first mistake.
    """
    return _Parser(text, source).run()


class _Parser:
    """State of one parse; see :func:`parse`."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.pool = NumberPool()
        self.numbers: dict[str, Fraction] = {}
        self.atoms: dict[_Words, Formula] = {}
        self.declared: dict[str, tuple[bool, int]] = {}
        self.asserted: list[Formula] = []

    def run(self) -> Parsed:
        """Reads the whole text."""
        frames = [_Frame("", 0, [])]
        top = frames[0].args
        atoms = self.atoms
        for match in _TOKEN.finditer(self.text):
            kind = match.lastindex
            if kind == _COMPARISON:
                words = cast("_Words", match.group(1, 2, 3))
                atom = atoms.get(words)
                top.append(self.comparison(match, 1, words) if atom is None else atom)
            elif kind == _ASSERTED:
                self.at_top(frames, match.start())
                self.asserted.append(self.comparison(match, 5, cast("_Words", match.group(5, 6, 7))))
            elif kind == _DECLARED:
                self.at_top(frames, match.start())
                self.declare(match[9], match[10], match.start())
            elif kind == _OPEN:
                top = []
                frames.append(_Frame(match[_OPEN], match.start(), top))
            elif kind == _CLOSE:
                frame = frames.pop()
                if not frames:
                    self.fail("closing parenthesis without an opening one; remove it", match.start())
                top = frames[-1].args
                top.append(self.reduce(frame, frames))
            elif kind == _WORD:
                top.append(_Word(match[_WORD], match.start()))
                if len(frames) == 1:
                    found = _quote(match[_WORD])
                    self.fail(f"expected '(' but found {found}; remove it, or add '('", match.start())
            # only commands stand at the top level, and they leave nothing behind
            if len(frames) == 1 and top:
                self.top_level(top, match.start())
        if len(frames) > 1:
            self.fail("parenthesis is never closed; add the missing ')'", frames[-1].at)
        return self.finish()

    def at_top(self, frames: list[_Frame], at: int) -> None:
        """Checks that the command at offset ``at`` is not inside another one."""
        if len(frames) > 1:
            line = self.text.count("\n", 0, frames[1].at) + 1
            what = f"a command begins inside the parenthesis opened on line {line}"
            self.fail(f"{what}; add the missing ')' before it", at)

    def top_level(self, values: list[_Value], at: int) -> None:
        """Checks that what ended at the top level was a command, and forgets it."""
        if values.pop() is not _DONE:
            self.fail("a formula stands outside (assert ...); wrap it in (assert ...)", at)

    def finish(self) -> Parsed:
        """Checks the declarations as a whole."""
        if not self.declared:
            self.fail("the file declares nothing; expected (declare-const X_0 Real) and so on", 0)
        sizes: list[int] = []
        for letter, kind in (("X", "inputs"), ("Y", "outputs")):
            numbers = [i for is_input, i in self.declared.values() if is_input == (letter == "X")]
            missing = next((i for i in range(len(numbers)) if f"{letter}_{i}" not in self.declared), None)
            if not numbers:
                self.fail(f"no {kind} are declared; add (declare-const {letter}_0 Real) and so on", 0)
            if missing is not None:
                what = f"{letter}_{max(numbers)} is declared but {letter}_{missing} is not"
                self.fail(f"{what}; {kind} must be numbered 0, 1, 2, ... without gaps", 0)
            sizes.append(len(numbers))
        return Parsed(sizes[0], sizes[1], tuple(self.asserted))

    def reduce(self, frame: _Frame, outer: list[_Frame]) -> _Value:
        """The value of a finished parenthesis inside the frames ``outer``."""
        first = frame.args[0] if frame.args else None
        if not frame.head and isinstance(first, _Word):  # a comment stood between '(' and the operator
            frame = _Frame(first.text, frame.at, frame.args[1:])
        head = frame.head
        if len(outer) == 1:
            return self.command(frame)
        if not head and first is None and outer[-1].head == "declare-fun":
            return _DONE
        if head in _FORMULA_HEADS:
            return self.connective(frame)
        if head in _COMPARISONS:
            if len(frame.args) != 2:
                self.arity(frame, "exactly 2 terms")
            left, right = (self.term(a, frame) for a in frame.args)
            return compare(head, left, right, self.pool)
        arithmetic = _ARITHMETIC.get(head)
        if arithmetic is None:
            known = "and or not => <= < >= > = + - * /"
            what = f"unknown operator {_quote(head)}" if head else "an operator is missing after '('"
            self.fail(f"{what}; expected one of {known}", frame.at)
        return arithmetic(self, frame)

    def command(self, frame: _Frame) -> _Value:
        """Executes a command of the top level."""
        if frame.head == "assert":
            if len(frame.args) != 1:
                self.arity(frame, "exactly 1 formula")
            self.asserted.append(self.formula(frame.args[0], frame))
        elif frame.head in {"declare-const", "declare-fun"}:
            self.declaration(frame)
        elif frame.head in _FORMULA_HEADS or frame.head in _COMPARISONS:
            self.fail("a formula stands outside (assert ...); wrap it in (assert ...)", frame.at)
        elif frame.head not in _IGNORED:
            what = f"unknown command {_quote(frame.head)}" if frame.head else "empty command '()'"
            self.fail(f"{what}; expected declare-const or assert", frame.at)
        return _DONE

    def declaration(self, frame: _Frame) -> None:
        """``(declare-const X_0 Real)`` or ``(declare-fun X_0 () Real)``."""
        words = [a.text for a in frame.args if isinstance(a, _Word)]
        if len(words) != 2 or len(frame.args) != (2 if frame.head == "declare-const" else 3):
            form = (
                "(declare-const X_0 Real)" if frame.head == "declare-const" else "(declare-fun X_0 () Real)"
            )
            self.fail(f"malformed declaration; write {form}", frame.at)
        self.declare(words[0], words[1], frame.at)

    def declare(self, name: str, sort: str, at: int) -> None:
        """Registers a variable."""
        match = _VARIABLE.fullmatch(name)
        if match is None:
            what = f"unknown variable {_quote(name)}"
            self.fail(f"{what}; VNN-LIB 1.0 knows inputs X_0, X_1, ... and outputs Y_0, Y_1, ...", at)
        if sort != "Real":
            self.fail(f"{name} has sort {_quote(sort)}; only Real is supported", at)
        if name in self.declared:
            self.fail(f"{name} is declared twice; remove one of the declarations", at)
        self.declared[name] = (match[1] == "X", int(match[2]))

    def connective(self, frame: _Frame) -> Formula:
        """``and``, ``or``, ``not`` and implication."""
        args = tuple(self.formula(a, frame) for a in frame.args)
        if frame.head == "not":
            if len(args) != 1:
                self.arity(frame, "exactly 1 formula")
            return Not(args[0])
        if not args:
            self.arity(frame, "at least 1 formula")
        if frame.head == "=>":
            return Or((*(Not(a) for a in args[:-1]), args[-1]))
        if len(args) == 1:
            return args[0]
        return And(args) if frame.head == "and" else Or(args)

    def comparison(self, match: re.Match[str], group: int, words: _Words) -> Formula:
        """A comparison of two words, remembered so that its next occurrence costs nothing.

        The words are ``group`` and the following groups of ``match``.
        """
        op, left, right = words
        variable = self.declared.get(left)
        atom: Formula
        if variable is not None and op != "=" and right not in self.declared:
            # nearly all atoms compare a variable with a number: no need to build terms first
            number, upper, strict = self.number(right, match.start(group + 2)), op[0] == "<", len(op) == 1
            if variable[0]:
                atom = Bound(variable[1], number, upper, strict)
            elif upper:
                atom = Row({variable[1]: ONE}, _NO_TERMS, -number, strict)
            else:
                atom = Row({variable[1]: _MINUS_ONE}, _NO_TERMS, number, strict)
        else:
            terms = [self.lookup(w, match.start(group + i + 1)) for i, w in enumerate((left, right))]
            atom = compare(op, terms[0], terms[1], self.pool)
        if len(self.atoms) < _MEMORY:
            self.atoms[words] = atom
        return atom

    def formula(self, value: _Value, frame: _Frame) -> Formula:
        """Insists on a formula."""
        if isinstance(value, _FORMULA_TYPES):
            return value
        if isinstance(value, _Word):
            self.fail(f"expected a formula but found {_quote(value.text)}; write a comparison", value.at)
        return self.fail(f"'{frame.head}' needs formulas, but an argument is a term", frame.at)

    def term(self, value: _Value, frame: _Frame) -> Term:
        """Insists on an arithmetic term."""
        if isinstance(value, Term):
            return value
        if isinstance(value, _Word):
            return self.lookup(value.text, value.at)
        return self.fail(f"'{frame.head}' needs arithmetic terms, but an argument is a formula", frame.at)

    def lookup(self, word: str, at: int) -> Term:
        """The term a word stands for: a declared variable or a decimal literal."""
        variable = self.declared.get(word)
        if variable is not None:
            is_input, index = variable
            return Term({}, {index: ONE}, ZERO) if is_input else Term({index: ONE}, {}, ZERO)
        return constant(self.number(word, at))

    def number(self, word: str, at: int) -> Fraction:
        """The number a literal stands for; equal numbers are one object."""
        number = self.numbers.get(word)
        if number is None:
            number = self.pool(self.literal(word, at))
            if len(self.numbers) < _MEMORY:
                self.numbers[word] = number
        return number

    def literal(self, word: str, at: int) -> Fraction:
        """Reads a decimal literal."""
        try:
            value = decimal_literal(word)
        except OverflowError:
            limit = f"{MAX_DIGITS} digits and exponents up to {MAX_EXPONENT}"
            self.fail(f"number {_quote(word)} is too long or too large; the limit is {limit}", at)
        if value is None:
            if _VARIABLE.fullmatch(word):
                self.fail(f"{word} is not declared; add (declare-const {word} Real) before its use", at)
            known = "inputs are X_0, X_1, ..., outputs Y_0, Y_1, ..., numbers like 0.5 or 1e-06"
            self.fail(f"unknown variable or malformed number {_quote(word)}; {known}", at)
        return value

    def arity(self, frame: _Frame, needs: str) -> NoReturn:
        """Reports a wrong number of arguments."""
        self.fail(
            f"'{frame.head}' takes {needs}, but has {len(frame.args)}; correct the argument list", frame.at
        )

    def fail(self, message: str, at: int) -> NoReturn:
        """Raises with the position of offset ``at``."""
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        raise SpecError(message, file=self.source or "<property>", line=line, column=column)


def _quote(word: str) -> str:
    """A word fit for a one-line message."""
    shown = word if len(word) <= 40 else word[:37] + "..."
    return ascii(shown)


def _sum(parser: _Parser, frame: _Frame) -> Term:
    if not frame.args:
        parser.arity(frame, "at least 1 term")
    return combine([(ONE, parser.term(a, frame)) for a in frame.args])


def _difference(parser: _Parser, frame: _Frame) -> Term:
    if not frame.args:
        parser.arity(frame, "at least 1 term")
    first, *rest = (parser.term(a, frame) for a in frame.args)
    if not rest:
        return combine([(-ONE, first)])
    return combine([(ONE, first), *((-ONE, term) for term in rest)])


def _product(parser: _Parser, frame: _Frame) -> Term:
    if not frame.args:
        parser.arity(frame, "at least 1 term")
    terms = [parser.term(a, frame) for a in frame.args]
    if sum(not t.is_constant for t in terms) > 1:
        what = "product of two variables: VNN-LIB 1.0 has linear terms only"
        parser.fail(f"{what}; write the property in VNN-LIB 2.0", frame.at)
    return product(terms)


def _quotient(parser: _Parser, frame: _Frame) -> Term:
    if len(frame.args) < 2:
        parser.arity(frame, "at least 2 terms")
    result, *divisors = (parser.term(a, frame) for a in frame.args)
    for divisor in divisors:
        if not divisor.is_constant or divisor.constant == 0:
            parser.fail("only division by a constant other than zero is supported", frame.at)
        result = combine([(1 / divisor.constant, result)])
    return result


_ARITHMETIC: dict[str, Callable[[_Parser, _Frame], Term]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
}
