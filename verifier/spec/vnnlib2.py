"""Reader for VNN-LIB 2.0, on top of the official ``vnnlib`` parser.

The official package parses and type-checks. Three things are ours: numbers are read from their
source text, because the package's own linear forms go through floating point; what the package
lets through although the standard forbids it (negative indices, two relations on one network,
shapes like ``[1.5]``, unknown element types) is checked here; errors get a position.

Literals keep the exact value they are written with, whatever the element type: ``(<= X[0] 0.1)``
over float32 admits the float32 numbers that are at most one tenth.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from bounds.errors import SpecError

from .exact import decimal_literal
from .formula import (
    MAX_DEGREE,
    MAX_TERMS,
    ONE,
    ZERO,
    And,
    Formula,
    NumberPool,
    Or,
    Term,
    combine,
    compare,
    constant,
    fold,
    product,
)
from .model import NetworkRef, Variable

# the official parser recurses on the C stack, and a stack overflow would end the process
MAX_DEPTH = 5000

_FLOATS = ("16", "32", "64", "8e4m3fn", "8e5m2", "8e4m3fnuz", "8e5m2fnuz", "4e2m1")
_INTEGERS = ("8", "16", "32", "64")
ELEMENT_TYPES = frozenset(
    ["real", "bfloat16", "bool"]
    + [f"float{s}" for s in _FLOATS]
    + [f"{sign}int{s}" for sign in ("", "u") for s in _INTEGERS]
)

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|;[^\n]*')
_VERSION = re.compile(r"\(\s*vnnlib-version\s+<\s*([0-9]+)\.([0-9]+)\s*>")
_DECLARATION = re.compile(
    r"\(\s*declare-(input|hidden|output)\s+([A-Za-z]\w*)\s+([A-Za-z]\w*)\s*\[([^\]]*)\]\s*(initialized)?"
)
_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]*)?")
_OPERATORS = {
    "LessEqual": "<=",
    "LessThan": "<",
    "GreaterEqual": ">=",
    "GreaterThan": ">",
    "Equal": "==",
    "NotEqual": "!=",
}
_RELATED = re.compile(r"\(\s*declare-network\s+(\w+)\s*(\(\s*isomorphic-to\s+(\w+)\s*\))")
_SYNTAX_ERROR = re.compile(r"line (\d+),? column (\d+):? ?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a query says.

    Attributes:
        variables: all declared tensors; network by network, inputs before hidden before outputs.
        networks: the declared networks.
        asserted: the assertions over flat indices.
        input_names: for each flat input its written name, such as ``X[0,1]``.
    """

    variables: tuple[Variable, ...]
    networks: tuple[NetworkRef, ...]
    asserted: tuple[Formula, ...]
    input_names: tuple[str, ...]


def is_vnnlib2(text: str) -> bool:
    """Whether the text starts, after comments, with a ``vnnlib-version`` command."""
    at = 0
    while match := re.compile(r"\s+|;[^\n]*").match(text, at):
        at = match.end()
    return re.compile(r"\(\s*vnnlib-version\b").match(text, at) is not None


def parse(text: str, source: str = "") -> Parsed:
    """Reads VNN-LIB 2.0 text.

    Raises:
        SpecError: the text is wrong, uses something unsupported, or the parser is not installed.
    """
    return _Reader(text, source or "<property>").run()


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a variable's elements lie among the flat inputs or the flat outputs."""

    variable: Variable
    offset: int


class _Reader:
    """State of one parse; see :func:`parse`."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.pool = NumberPool()
        self.slots: dict[str, _Slot] = {}
        # blanks instead of comments keep every position; strings may contain ';' and parentheses
        self.text = _STRING_OR_COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else " " * len(m[0]), text)
        code = _STRING_OR_COMMENT.sub(lambda m: "_" * len(m[0]), self.text)
        self.starts = [m.start() for m in re.finditer(r"\(\s*assert(?![\w-])", code)]
        self.lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self.check_depth(code)
        self.elements = self.check_declarations(code)
        self.related = {m[1]: m[3] for m in _RELATED.finditer(code)}

    def run(self) -> Parsed:
        """Parses and converts."""
        query = self.official_parse()
        networks = tuple(self.network(n) for n in query.networks)
        self.check_relations(networks)
        variables = tuple(slot.variable for slot in self.slots.values())
        reals = {v.element == "real" for v in variables}
        if len(reals) == 2:
            self.fail("element type 'real' is mixed with others; use it for all tensors or for none")
        asserted = [self.assertion(a, i) for i, a in enumerate(query.assertions)]
        names = tuple(name for v in variables if v.kind == "input" for name in _element_names(v))
        return Parsed(variables, networks, tuple(asserted), names)

    def official_parse(self) -> Any:
        """Runs the official parser; its errors become ours."""
        try:
            vnnlib = importlib.import_module("vnnlib")
        except ImportError:
            hint = "it is not installed (or has no wheel here); pip install surebound[vnnlib2]"
            self.fail(f"VNN-LIB 2.0 needs the official 'vnnlib' parser, and {hint}")
        try:
            return vnnlib.parse_query_string(self.text)
        except Exception as error:
            # the binding lets C++ exceptions through under several Python types
            text = str(error)
        if self.related and _only_types_differ(text):
            # isomorphic networks may differ in element types (rule NetworkIso of the standard),
            # which the official parser refuses: it must not see that they are related
            hidden = _RELATED.sub(lambda m: m[0][: m.start(2) - m.start()] + " " * len(m[2]), self.text)
            try:
                return vnnlib.parse_query_string(hidden)
            except Exception as error:
                text = str(error)
        return self.fail_official(text)

    def check_depth(self, code: str) -> None:
        """Limits nesting, and requires a 2.x version; minor versions all parse alike."""
        depth = 0
        for match in re.finditer(r"[()]", code):
            depth += 1 if match[0] == "(" else -1
            if depth > MAX_DEPTH:
                self.fail(f"more than {MAX_DEPTH} nested parentheses; flatten the formula", match.start())
        version = _VERSION.search(code)
        if version is None:
            self.fail("malformed version; begin the file with (vnnlib-version <2.0>)", 0)
        if version[1] != "2":
            what = f"VNN-LIB version {version[1][:9]}.{version[2][:9]} is not supported"
            self.fail(f"{what}; use version 2.0", version.start())
        # the official parser prints a warning about every other minor version
        start, end = version.start(2), version.end(2)
        if self.text[start:end] != "0":
            self.text = self.text[:start] + "0" * (end - start) + self.text[end:]

    def check_declarations(self, code: str) -> dict[str, str]:
        """Element types as written, by variable: the official parser forgets those it does not know."""
        elements: dict[str, str] = {}
        for match in _DECLARATION.finditer(code):
            _, name, element, shape, initialized = match.groups()
            if initialized:
                hint = "remove the word and fix the input by equalities"
                self.fail(
                    f"the input option 'initialized' (of {name}) is not supported; {hint}", match.start(5)
                )
            # the standard says 'real'; its own examples say 'Real'
            written = "real" if element == "Real" else element
            if written not in ELEMENT_TYPES:
                known = "supported are real and the ONNX float and integer types, such as float32"
                self.fail(f"{name} has element type {element[:40]!r}; {known}", match.start(3))
            if any(not re.fullmatch(r"\s*[0-9]+\s*", s) for s in shape.split(",")) and shape.strip():
                what = f"{name} has the shape [{ascii(shape)[1:-1][:40]}]"
                self.fail(f"{what}; dimensions are positive integers separated by commas", match.start(4))
            elements[name] = written
        return elements

    def network(self, node: Any) -> NetworkRef:
        """Converts one network declaration and registers its tensors."""
        name = str(node.name)
        for kind, nodes in (("input", node.inputs), ("hidden", node.hidden), ("output", node.outputs)):
            for declaration in nodes:
                self.register(declaration, kind, name)
        if node.equal_to and node.isometric_to:
            self.fail(f"network {name} is both equal-to and isomorphic-to another; keep one of the two")
        if node.equal_to:
            return NetworkRef(name, "equal", str(node.equal_to))
        if node.isometric_to or name in self.related:
            return NetworkRef(name, "isomorphic", str(node.isometric_to or self.related[name]))
        return NetworkRef(name)

    def check_relations(self, networks: Sequence[NetworkRef]) -> None:
        """What the official parser checks of isomorphic networks, except that element types may differ."""
        earlier: dict[str, NetworkRef] = {}
        for ref in networks:
            other = earlier.get(ref.same_as)
            if ref.relation and (other is None or other.relation):
                what = f"network {ref.name} is related to {ref.same_as}, which is not declared before it"
                self.fail(f"{what} as a network of its own; relate it to one that is")
            for kind in ("input", "output"):
                if ref.relation and self.shapes(ref.name, kind) != self.shapes(ref.same_as, kind):
                    what = f"networks {ref.name} and {ref.same_as} are related, but their {kind}s differ"
                    self.fail(f"{what} in shape; declare equal shapes")
            earlier[ref.name] = ref

    def shapes(self, network: str, kind: str) -> list[tuple[int, ...]]:
        """Shapes of a network's inputs or outputs, in order."""
        found = (slot.variable for slot in self.slots.values())
        return [v.shape for v in found if (v.network, v.kind) == (network, kind)]

    def register(self, node: Any, kind: str, network: str) -> None:
        """Gives a declared tensor its place among the flat elements."""
        name = str(node.name)
        shape = tuple(int(s) for s in node.shape)
        onnx = json.loads(str(node.onnx_name)) if node.onnx_name else ""
        variable = Variable(name, kind, shape, self.elements.get(name, "real"), network, onnx)
        group = [s.variable for s in self.slots.values() if (s.variable.kind == "input") == (kind == "input")]
        self.slots[name] = _Slot(variable, sum(v.size for v in group))

    def assertion(self, node: Any, number: int) -> Formula:
        """Converts the ``number``-th assertion."""
        at = self.starts[number] if number < len(self.starts) else -1

        def join(expression: Any, below: list[Formula]) -> Formula:
            kind = type(expression).__name__
            if kind == "And":
                return And(tuple(below)) if len(below) > 1 else below[0]
            if kind == "Or":
                return Or(tuple(below)) if len(below) > 1 else below[0]
            left, right = (self.term(e, at) for e in (expression.lhs, expression.rhs))
            return compare(_OPERATORS[kind], left, right, self.pool)

        return fold(node.expr, _connected, join)

    def term(self, node: Any, at: int) -> Term:
        """Converts an arithmetic expression of the assertion at offset ``at``."""

        def join(expression: Any, below: list[Term]) -> Term:
            kind = type(expression).__name__
            if kind == "Var":
                return self.element(expression, at)
            if kind in {"Int", "Float", "Literal", "IntExpr"}:
                return self.literal(str(expression.lexeme), at)
            if kind == "Negate":
                return combine([(-ONE, below[0])])
            if kind == "Plus":
                return combine([(ONE, b) for b in below])
            if kind == "Minus":
                return combine([(ONE, below[0]), *((-ONE, b) for b in below[1:])])
            try:
                return product(below)
            except OverflowError:
                limit = f"degree {MAX_DEGREE} or {MAX_TERMS} terms"
                self.fail(f"a product of this assertion multiplies out to over {limit}; write less", at)

        return fold(node, _operands, join)

    def element(self, node: Any, at: int) -> Term:
        """One element of a tensor, by its flat index in C order."""
        slot = self.slots[str(node.name)]
        variable = slot.variable
        indices = [int(i) for i in node.indices]
        if len(indices) != len(variable.shape) or any(
            not 0 <= i < s for i, s in zip(indices, variable.shape, strict=True)
        ):
            what = f"index {indices} does not fit {variable.name} of shape {list(variable.shape)}"
            self.fail(f"{what}; indices count from 0, one per dimension", at)
        flat = 0
        for i, s in zip(indices, variable.shape, strict=True):
            flat = flat * s + i
        terms = {slot.offset + flat: ONE}
        return Term({}, terms, ZERO) if variable.kind == "input" else Term(terms, {}, ZERO)

    def literal(self, lexeme: str, at: int) -> Term:
        """An exact number from its source text."""
        try:
            value = decimal_literal(lexeme)
        except OverflowError:
            value = None
        if value is None:
            self.fail(f"number {lexeme[:40]!a} is malformed or too long; write a shorter decimal", at)
        return constant(value)

    def fail_official(self, text: str) -> NoReturn:
        """Translates an error of the official parser: JSON, a syntax error, or a bare C++ message."""
        syntax = _SYNTAX_ERROR.search(text)
        if text.startswith("{"):
            report = json.loads(text)
            first = report["errors"][0] if report.get("errors") else {}
            symbol = str(first.get("offendingSymbol", ""))
            message = f"{first.get('message', 'invalid query')} ({symbol}). {first.get('hint', '')}".strip()
            line = int(first.get("line", 0))
            self.fail(_one_line(message), self.find(symbol, line))
        if syntax is not None:
            line, column = int(syntax[1]), int(syntax[2])
            at = self.lines[min(line, len(self.lines)) - 1] + column  # the parser counts columns from 0
            near = syntax[3].strip()
            what = "syntax error at the end of the file: a ')' is missing, or there is no assertion"
            if near not in {"", "''"}:
                known = "VNN-LIB 2.0 has no exponents (powers are products), and equality is '=='"
                what = f"syntax error near {near}; {known}"
            self.fail(_one_line(what), at)
        if text in {"stod", "stoi", "stol", "stoll"}:  # names of the C++ functions that failed
            self.fail("a number is beyond what the official parser reads; write another", self.extreme(text))
        self.fail(f"the official parser failed ({_one_line(text)}); check the file against the standard")

    def extreme(self, function: str) -> int:
        """Offset of the first number that a C++ conversion function refuses; -1 when none is seen."""
        for match in _NUMBER.finditer(_STRING_OR_COMMENT.sub(lambda m: "_" * len(m[0]), self.text)):
            size = float(match[0])
            tiny = size < sys.float_info.min and match[0].strip("0.") != ""
            if size > (sys.float_info.max if function == "stod" else 2**31 - 1) or tiny:
                return match.start()
        return -1

    def find(self, symbol: str, line: int) -> int:
        """Offset of a symbol on a line (1-based), of the line itself when it is not there."""
        if not 1 <= line <= len(self.lines):
            return -1
        start = self.lines[line - 1]
        end = self.lines[line] if line < len(self.lines) else len(self.text)
        return max(self.text.find(symbol, start, end), start)

    def fail(self, message: str, at: int = -1) -> NoReturn:
        """Raises, with the position of offset ``at`` unless that is negative."""
        if at < 0:
            raise SpecError(message, file=self.source)
        line = bisect_right(self.lines, at)
        raise SpecError(message, file=self.source, line=line, column=at - self.lines[line - 1] + 1)


def _only_types_differ(text: str) -> bool:
    """Whether the official parser found no fault but different element types of related networks."""
    errors = json.loads(text).get("errors", []) if text.startswith("{") else []
    return bool(errors) and all(
        e.get("errorCode") == "TypeMismatch" and " between networks " in str(e.get("message")) for e in errors
    )


def _connected(node: Any) -> Sequence[Any]:
    return node.args if type(node).__name__ in {"And", "Or"} else ()


def _operands(node: Any) -> Sequence[Any]:
    kind = type(node).__name__
    if kind == "Negate":
        return (node.expr,)
    if kind == "Minus":
        return (node.head, *node.rest)
    return node.args if kind in {"Plus", "Multiply"} else ()


def _element_names(variable: Variable) -> list[str]:
    names = [""]
    for size in variable.shape:
        names = [f"{n},{i}" if n else str(i) for n in names for i in range(size)]
    return [f"{variable.name}[{n}]" if n else variable.name for n in names]


def _one_line(text: str) -> str:
    """Printable, on one line, of bounded length."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in flat)[:200]
