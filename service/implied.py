"""Whether an earlier answer to another question answers a new one: exact comparisons of two properties.

A proof for a larger set of inputs, or for a weaker unsafe condition, is a proof for the smaller; a
counterexample that lies in the new set and is unsafe by the new condition is one for it too. Both are decided
in rational arithmetic; where anything cannot be compared the answer is no, which costs time only.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from bounds.errors import SureboundError
from service.schemas import Property as Asked
from verifier.spec import load, vnnlib2
from verifier.spec.check_point import violation
from verifier.spec.model import Case, Property
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness

# reading a property is pure computation in the web process: larger ones are simply asked anew
LARGEST: Final = 100_000
_REPLAYED: Final = "replayed"


def read(asked: Mapping[str, Any] | None, outputs: int | None = None) -> Property | None:
    """A request's property as exact values, or None where it is too large, or in a language not read here.

    Args:
        asked: the request's "property".
        outputs: number of outputs of the network, which a robustness property needs; None: just above its
            label, so that two such properties can be compared.
    """
    if asked is None:
        return None
    given = Asked.model_validate(asked)
    try:
        if given.vnnlib is not None:
            if len(given.vnnlib) > LARGEST or vnnlib2.is_vnnlib2(given.vnnlib):
                return None
            return load.loads(given.vnnlib)
        built = given.robustness
        assert built is not None
        point = built.input or built.image or []
        if len(point) > LARGEST // 20:
            return None
        region = around(point, built.radius, norm="l" + built.norm, clip=built.clip)
        return local_robustness(region, label=built.label, outputs=outputs or built.label + 2)
    except SureboundError:
        return None


def proved_by(new: Property, old: Property) -> bool:
    """Whether a proof of ``old`` is one of ``new``: whatever violates the new one violates the old one."""
    if new.input_size != old.input_size or new.output_size != old.output_size:
        return False
    return all(case.empty or any(_within(case, other) for other in old.cases) for case in new.cases)


def _within(new: Case, old: Case) -> bool:
    if old.partial or new.partial:
        return False
    lower = all(a >= b for a, b in zip(new.lower, old.lower, strict=True))
    upper = all(a <= b for a, b in zip(new.upper, old.upper, strict=True))
    return lower and upper and _in_ball(new, old) and _implies(new, old)


def _in_ball(new: Case, old: Case) -> bool:
    if old.ball is None:
        return True
    if new.ball is None:
        return False
    same = new.ball.center == old.ball.center and new.ball.norm == old.ball.norm
    return same and new.ball.radius <= old.ball.radius


def _implies(new: Case, old: Case) -> bool:
    """Every new disjunct holds only where some old one does: that has no row which the new one lacks."""
    return all(
        any(all(row in disjunct for row in other) for other in old.disjuncts) for disjunct in new.disjuncts
    )


def violated_by(new: Property, witness: bytes) -> bool:
    """Whether a stored witness of the same network violates ``new`` as well, by onnxruntime's own outputs.

    Only witnesses that were replayed at float32 inputs count; their numbers are stored exactly.
    """
    try:
        document: dict[str, Any] = json.loads(witness)
        if document["kind"] != _REPLAYED:
            return False
        x, y = (_exact(document["values"][name]) for name in ("input", "output"))
    except (ValueError, KeyError, TypeError, OverflowError):
        return False
    if x is None or y is None or len(x) != new.input_size or len(y) != new.output_size:
        return False
    return violation(new, x, y) is not None


def _exact(values: list[Any]) -> list[Fraction] | None:
    """Float32 numbers as rationals; None if any is not one."""
    out: list[Fraction] = []
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        if struct.unpack("f", struct.pack("f", value))[0] != value:
            return None
        out.append(Fraction(value))
    return out
