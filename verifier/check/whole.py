"""Inputs that the network reads only through one rounding to whole numbers, searched as whole numbers.

Let r be floor, ceil, trunc or round, and let every reader of an input element x begin with r. As r changes no
whole number, the network's outputs at x are those at r(x), at every level of rounding: what r returns is
exact. r is monotone, so on ``[l, u]`` it takes whole values between r(l) and r(u) only. Hence a property
whose rows do not read the element themselves holds on ``[l, u]`` if it holds for every whole number in
``[r(l), r(u)]``. Regions of a tree over such elements are cut down to the whole numbers in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from verifier.check.functions import STAIRS, Function
from verifier.check.network import Array, Kind, Network, Node, Take
from verifier.check.reader import reject
from verifier.spec.model import Case

_ROUND: Mapping[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": round,
}
_LARGEST = 1 << 52  # float64 holds all whole numbers up to here, and halves between them


def whole_numbers(
    network: Callable[[], Network], arrays: Mapping[str, Array], cases: Sequence[Case]
) -> tuple[list[Case], Array]:
    """The cases over the whole numbers that a certificate asks for, and which elements those are.

    Args:
        network: made when it is first needed.
        arrays: ``whole_case`` and ``whole_input``, the elements that are to be replaced.
        cases: linear ones.

    Returns:
        The cases with other boxes, and bool of shape (cases, inputs).

    Raises:
        CertificateRejected: an element is named twice or out of range, or it may not be replaced.
    """
    inputs = len(cases[0].lower) if cases else 0
    mask, found = np.zeros((len(cases), inputs), bool), list(cases)
    case, element = arrays["whole_case"].astype(np.int64), arrays["whole_input"].astype(np.int64)
    if not len(case):
        return found, mask
    if np.any((case < 0) | (case >= len(cases)) | (element < 0) | (element >= inputs)):
        reject("whole numbers", "a case or an input element is out of range")
    mask[case, element] = True
    if mask.sum() != len(case):
        reject("whole numbers", "an input element of a case is named twice")
    rounded = roundings(network())
    for c in np.unique(case).tolist():
        found[c] = _replaced(c, found[c], np.flatnonzero(mask[c]).tolist(), rounded)
    return found, mask


def _replaced(c: int, case: Case, elements: Sequence[int], rounded: Mapping[int, str]) -> Case:
    if case.empty or case.ball is not None:
        reject("whole numbers", f"case {c} is empty, or a ball")
    direct = {j for rows in case.disjuncts for row in rows for j in row.inputs}
    lower, upper = list(case.lower), list(case.upper)
    for j in elements:
        if j not in rounded or j in direct:
            reject("whole numbers", f"not only a rounding reads input element {j} of case {c}")
        ends = _ROUND[rounded[j]](lower[j]), _ROUND[rounded[j]](upper[j])
        if max(map(abs, ends)) > _LARGEST:
            reject("whole numbers", f"input element {j} of case {c} is too large")
        lower[j], upper[j] = map(Fraction, ends)
    return replace(case, lower=tuple(lower), upper=tuple(upper))


def roundings(network: Network) -> dict[int, str]:
    """Input elements that every reader rounds first, all by the same function; and by which one."""
    readers: dict[int, set[str]] = {}
    # of the input, and of nodes that only move data: the input element that each element is, -1 for none
    origin: dict[int, Array] = {}
    for i, node in enumerate(network.nodes):
        if node.kind is Kind.INPUT:
            origin[i] = np.arange(node.size)
            continue
        moved = _moved(node, origin)
        if moved is not None:
            origin[i] = moved
            continue
        how = first_rounding(node.function) if node.kind is Kind.SCALAR else ""
        for source in {*node.operands, *(s for s, _ in node.terms)} & origin.keys():
            _note(readers, origin[source], how)
    if network.output in origin:
        _note(readers, origin[network.output], "")
    return {j: next(iter(how)) for j, how in readers.items() if len(how) == 1 and how != {""}}


def _note(readers: dict[int, set[str]], elements: Array, how: str) -> None:
    for j in np.unique(elements[elements >= 0]).tolist():
        readers.setdefault(j, set()).add(how)


def _moved(node: Node, origin: Mapping[int, Array]) -> Array | None:
    """Where the elements of a node come from that does nothing but move elements of the input."""
    plain = node.kind is Kind.AFFINE and not node.error and not node.roundings
    if not plain or len(node.terms) != 1 or node.terms[0][0] not in origin:
        return None
    source, chain = node.terms[0]
    index = origin[source]
    for m in chain:
        if not isinstance(m, Take):
            return None
        index = np.where(m.index >= 0, index[np.maximum(m.index, 0)], -1)
    # a constant part may stand only where no element came from
    return None if node.bias is not None and np.any(node.bias[index >= 0]) else index


def first_rounding(f: Function) -> str:
    """The rounding through which alone a function reads its variable; "" if there is no such one."""
    found = {step.fn for step in f if 0 in step.args}
    name = found.pop() if len(found) == 1 else ""
    return name if name in STAIRS and len(f) > 1 else ""
