"""Counterexamples as text: the VNN-COMP form (VNN-LIB 1.0) and the form of VNN-LIB 2.0, chapter 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

from verifier.report.emit.decimals import decimal, integer
from verifier.report.model import Report
from verifier.spec.model import Property, Variable
from verifier.verdict import Witness

T = TypeVar("T")

_INTEGERS = ("int", "uint", "bool")


def assignment(report: Report, spec: Property | None = None) -> str:
    """The witness of a ``sat`` report in the form that fits its property's language; "" for others.

    Args:
        report: the report.
        spec: the property it answers; without it the VNN-COMP form is used, and values are not
            checked against the box when they are shortened.
    """
    if report.witness is None:
        return ""
    if spec is not None and spec.language == "vnnlib-2":
        return "\n".join(_tensors(report.witness, spec))
    return vnncomp(report, spec)


def vnncomp(report: Report, spec: Property | None = None) -> str:
    """``((X_0 value)`` ... ``(Y_0 value))``, one pair a line; "" without a witness."""
    if report.witness is None:
        return ""
    values = [*input_values(report.witness, spec), *(decimal(v) for v in report.witness.y)]
    names = [*report.input_names, *report.output_names]
    if len(names) != len(values):  # a property whose names were not handed on: count instead
        names = [f"X_{i}" for i in range(len(report.witness.x))]
        names += [f"Y_{i}" for i in range(len(report.witness.y))]
    pairs = [f"({name} {value})" for name, value in zip(names, values, strict=True)]
    return "(" + "\n ".join(pairs) + ")"


def input_values(witness: Witness, spec: Property | None) -> list[str]:
    """Texts of the inputs, each inside the box of the violated case when the property is known."""
    if spec is None or witness.case >= len(spec.cases):
        return [decimal(v) for v in witness.x]
    case = spec.cases[witness.case]
    return [decimal(*triple) for triple in zip(witness.x, case.lower, case.upper, strict=True)]


def _tensors(witness: Witness, spec: Property) -> Iterator[str]:
    case = spec.cases[witness.case]
    inputs = list(zip(witness.x, case.lower, case.upper, strict=True))
    outputs: list[tuple[Fraction, Fraction | None, Fraction | None]] = [(y, None, None) for y in witness.y]
    for variable, values in declared(spec, inputs, outputs):
        yield f"{variable.name} {variable.element} [{','.join(map(str, variable.shape))}]"
        whole = variable.element.startswith(_INTEGERS)
        for value, lower, upper in values:
            yield integer(value) if whole else decimal(value, lower, upper)


def declared(
    spec: Property, inputs: Sequence[T], outputs: Sequence[T]
) -> Iterator[tuple[Variable, Sequence[T]]]:
    """Variables in the order of the query, each with its slice of the flat values."""
    at_input, at_output = 0, 0
    for variable in spec.variables:
        if variable.kind == "input":
            yield variable, inputs[at_input : at_input + variable.size]
            at_input += variable.size
        else:
            yield variable, outputs[at_output : at_output + variable.size]
            at_output += variable.size
