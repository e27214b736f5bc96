"""What a property is, once parsed: boxes of inputs and a condition that must not happen.

A property is *violated* when some case has an input inside its box for which one of its disjuncts
holds (every row of the disjunct holds). It *holds* (``unsat``) when no case has such an input. All
numbers are exact rationals; nothing here knows networks' inner layers, bounds or search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple, TypeAlias


class Power(NamedTuple):
    """``y_element ** exponent`` (``output``), or ``x_element ** exponent``; the exponent is at least 1."""

    output: bool
    element: int
    exponent: int


# a product of powers of distinct variables, sorted (inputs first), of degree at least 2
Monomial: TypeAlias = tuple[Power, ...]

NO_PRODUCTS: Mapping[Monomial, Fraction] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """A polynomial atom over flat inputs ``x`` and flat outputs ``y``: ``expr <= 0`` or ``expr < 0``.

    ``expr = sum outputs[i] y_i + sum inputs[j] x_j + sum products[m] m + constant``; in most properties
    there are no ``products``, and the atom is linear.
    """

    outputs: Mapping[int, Fraction]
    inputs: Mapping[int, Fraction]
    constant: Fraction
    strict: bool = False
    products: Mapping[Monomial, Fraction] = field(default_factory=lambda: NO_PRODUCTS)

    def value(self, x: Mapping[int, Fraction], y: Mapping[int, Fraction]) -> Fraction:
        """Exact value of ``expr``; ``x`` and ``y`` must hold every index that occurs."""
        total = self.constant
        for i, c in self.outputs.items():
            total += c * y[i]
        for j, c in self.inputs.items():
            total += c * x[j]
        for monomial, c in self.products.items():
            for output, element, exponent in monomial:
                c = c * (y if output else x)[element] ** exponent
            total += c
        return total

    def holds(self, value: Fraction) -> bool:
        """Whether the atom is true for this exact value of ``expr``."""
        return value < 0 if self.strict else value <= 0


@dataclass(frozen=True, slots=True)
class Ball:
    """A closed ball in the 1-norm or the 2-norm around ``center``, over all flat inputs.

    Attributes:
        center: one exact coordinate per flat input.
        radius: exact, not negative.
        norm: 1 or 2.
    """

    center: tuple[Fraction, ...]
    radius: Fraction
    norm: int

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Exact membership; squares stand for the 2-norm, so nothing is rounded."""
        differences = [abs(v - c) for v, c in zip(x, self.center, strict=True)]
        if self.norm == 1:
            return sum(differences) <= self.radius
        return sum(d * d for d in differences) <= self.radius * self.radius


@dataclass(frozen=True, slots=True)
class Case:
    """One input box with the unsafe condition on it, in disjunctive normal form.

    Attributes:
        lower, upper: exact box, one entry per flat input element; ``lower[i] > upper[i]`` for some
            i means that the case is empty.
        disjuncts: unsafe if any disjunct has all its rows true. An empty disjunct is always true.
        ball: where given, only inputs that also lie in this ball count. The box contains the part of
            the ball that counts, so ignoring the ball is sound for proofs, not for counterexamples.
        partial: the inputs are not all bounded, and the box is only a part of what is allowed: good for
            counterexamples, not for proofs.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    disjuncts: tuple[tuple[Row, ...], ...]
    ball: Ball | None = None
    partial: bool = False

    @property
    def empty(self) -> bool:
        """True when no input is inside the box."""
        return any(lo > hi for lo, hi in zip(self.lower, self.upper, strict=True))


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared input or output tensor: name as written, flat size, shape, element type.

    ``kind`` is "input", "hidden" or "output"; ``element`` is "real", "float32", ...; ``network`` is
    the declaring network's name ("" in VNN-LIB 1.0). ``onnx`` is the ONNX tensor name where the
    property gives one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    element: str = "real"
    network: str = ""
    onnx: str = ""

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for s in self.shape:
            total *= s
        return total


@dataclass(frozen=True, slots=True)
class NetworkRef:
    """A network that a property talks about; ``same_as`` names the one it must equal.

    ``relation`` is "" (independent), "equal" (the same file) or "isomorphic" (same graph, other
    weights).
    """

    name: str
    relation: str = ""
    same_as: str = ""


@dataclass(frozen=True, slots=True)
class Property:
    """A parsed property.

    Flat indices of ``Row.inputs`` run over the input variables in order, each flattened in C order;
    those of ``Row.outputs`` over the hidden and output variables in order.

    Attributes:
        variables: declared tensors, in the order that fixes flat indices (within each group).
        cases: see :class:`Case`.
        networks: one per declared network; a single unnamed one for VNN-LIB 1.0.
        language: "vnnlib-1", "vnnlib-2" or "built".
        source: file name for messages, "" when built.
        sha256: digest of the property's bytes (after decompression), "" when built.
        text: for built properties their canonical text (JSON), so that they can travel with a certificate.
    """

    variables: tuple[Variable, ...]
    cases: tuple[Case, ...]
    networks: tuple[NetworkRef, ...] = (NetworkRef(""),)
    language: str = "vnnlib-1"
    source: str = ""
    sha256: str = ""
    text: str = ""

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """Input variables in order."""
        return tuple(v for v in self.variables if v.kind == "input")

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """Hidden and output variables in order."""
        return tuple(v for v in self.variables if v.kind != "input")

    @property
    def input_size(self) -> int:
        """Number of flat inputs."""
        return sum(v.size for v in self.inputs)

    @property
    def output_size(self) -> int:
        """Number of flat hidden and output elements."""
        return sum(v.size for v in self.outputs)
