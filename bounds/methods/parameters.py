"""The free parameters of a bound as plain arrays, in the layout of certificates.

docs/reference/certificate.md: neurons of rectifiers (``N``), elements of scalar steps (``M``) and of products
(``P``) are numbered per kind, steps in order, elements in C order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.tape import Tape
from bounds.relax.base import Choice
from bounds.relax.elementwise import ScalarRelaxation
from bounds.relax.product import ProductRelaxation
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of ``R`` rows (or of ``R`` boxes' intermediate bounds).

    Attributes:
        slopes: ``R N`` uint8, lower slopes of rectifiers in 1/128.
        lines: ``R 2M`` float32, lower then upper slopes of scalar elements.
        mixes: ``R 2P`` uint8, mixing parameters of lower then upper planes of products, in 1/128.
    """

    slopes: Array
    lines: Array
    mixes: Array

    @staticmethod
    def none(rows: int) -> Parameters:
        """Nothing kept."""
        empty = np.zeros((rows, 0), dtype=np.uint8)
        return Parameters(empty, empty.astype(np.float32), empty)

    def take(self, index: Any) -> Parameters:
        """The listed (or masked) rows."""
        return Parameters(self.slopes[index], self.lines[index], self.mixes[index])

    @staticmethod
    def concat(parts: list[Parameters]) -> Parameters:
        """All of them in order."""
        return Parameters(
            np.concatenate([p.slopes for p in parts]),
            np.concatenate([p.lines for p in parts]),
            np.concatenate([p.mixes for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class Refined:
    """Which operands of nonlinear steps were bounded backwards.

    Attributes:
        neurons: ``D N`` bool; scalars: ``D M`` bool; products: ``D 2P`` bool, left operands then right ones.
    """

    neurons: Array
    scalars: Array
    products: Array


def stored_parameters(tape: Tape, choices: list[Choice], rows: int) -> Parameters:
    """Choices of ``R`` rows, one per relaxation of the tape."""
    slopes: list[Any] = []
    lines: tuple[list[Any], list[Any]] = ([], [])
    mixes: tuple[list[Any], list[Any]] = ([], [])
    for relaxation, choice in zip(tape.relaxations, choices, strict=True):
        if isinstance(relaxation, ReluRelaxation):
            slopes.append(choice[0])
        elif isinstance(relaxation, ScalarRelaxation):
            for held, part in zip(lines, choice[2:4], strict=True):
                held.append(part)
        elif isinstance(relaxation, ProductRelaxation):
            for held, part in zip(mixes, choice[:2], strict=True):
                held.append(part)
    return Parameters(
        _in_steps(_flat(tape, slopes, rows)),
        _flat(tape, [*lines[0], *lines[1]], rows).astype(np.float32),
        _in_steps(_flat(tape, [*mixes[0], *mixes[1]], rows)),
    )


def tape_parameters(tape: Tape) -> Parameters:
    """``D`` boxes: the parameters of the tape's intermediate bounds."""
    every = tape.kernels.array(np.arange(len(tape)))
    return stored_parameters(tape, [r.initial(every) for r in tape.relaxations], len(tape))


def refined_elements(tape: Tape) -> Refined:
    """``D`` boxes: the elements that the pass bounded backwards."""
    neurons: list[Any] = []
    scalars: list[Any] = []
    products: tuple[list[Any], list[Any]] = ([], [])
    for relaxation in tape.relaxations:
        if isinstance(relaxation, ReluRelaxation):
            neurons.append(relaxation.refined[0])
        elif isinstance(relaxation, ScalarRelaxation):
            scalars.append(relaxation.refined[0])
        else:
            for held, part in zip(products, relaxation.refined, strict=True):
                held.append(part)
    boxes = len(tape)
    return Refined(
        _flat(tape, neurons, boxes).astype(bool),
        _flat(tape, scalars, boxes).astype(bool),
        _flat(tape, [*products[0], *products[1]], boxes).astype(bool),
    )


def _flat(tape: Tape, parts: list[Any], rows: int) -> Array:
    if not parts:
        return np.zeros((rows, 0))
    return np.concatenate([np.asarray(tape.kernels.numpy(p)).reshape(rows, -1) for p in parts], axis=1)


def _in_steps(values: Array) -> Array:
    return np.rint(values * SLOPE_STEPS).astype(np.uint8)
