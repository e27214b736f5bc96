"""Re-proves a Lipschitz certificate: multipliers in, a bound out, or a rejection.

The claim is about all pairs of inputs, or about those in a region, from which the checker finds the slopes
itself (:mod:`verifier.check.local`); what multipliers prove is in :mod:`verifier.check.storage`, the file's
form in docs/reference/lipschitz-certificate.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

import numpy as np

from bounds.errors import BadInput, CertificateInvalid, CertificateRejected, LimitExceeded
from verifier.check.importer import whole
from verifier.check.increments import Approximate, Increments, gamma, increments, opposite
from verifier.check.local import Where, slopes_on
from verifier.check.main import load_model
from verifier.check.network import Array, Kind, Network
from verifier.check.storage import Slopes, proved_bound
from verifier.spec.model import Ball

FORMAT, VERSION = "surebound-lipschitz", 2
MAX_BYTES = 1 << 30
KEYS = {
    "format": str, "version": int, "model_sha256": str, "producer": str, "norm": str, "output_norm": str,
    "upper": float, "problems": list, "region": (dict, NoneType), "rows": (list, NoneType),
}  # fmt: skip
NORMS = ("1", "2", "inf")


@dataclass(frozen=True, slots=True)
class LipschitzCheck:
    """An accepted certificate: ``|f(x) - f(y)|_output_norm <= upper |x - y|_norm`` for all x, y.

    ``local``: only for x, y in the certificate's region; ``rows``: of so many combinations of outputs in
    place of f (0: of f itself). ``far``: the network has functions other than rectifiers, and all is said of
    inputs for which the magnitudes of their operands stay below :data:`verifier.check.slopes.FARTHEST`.
    """

    upper: float
    norm: str
    output_norm: str
    problems: int
    seconds: float
    far: bool
    local: bool = False
    rows: int = 0


def is_lipschitz_certificate(path: Path) -> bool:
    """Whether a file looks like one (it is then read by :func:`check_lipschitz`)."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None


def check_lipschitz(path: Path, model: Path) -> LipschitzCheck:
    """Checks a certificate file against a model.

    Raises:
        CertificateInvalid, BadInput, LimitExceeded: it cannot be read.
        CertificateRejected: it does not prove its bound.
    """
    start = time.monotonic()
    document = validated(read_object(path))
    file = load_model(model)
    if file.digest != document["model_sha256"]:
        _reject("model", "it speaks about another file")
    return check_document(document, file.data, start)


def check_document(document: Mapping[str, Any], data: bytes, start: float = 0.0) -> LipschitzCheck:
    """As :func:`check_lipschitz`, from a validated object and the model's bytes."""
    network = whole(data)
    prover = Prover(network, _region(document["region"], network.nodes[0].size))
    rows = _rows(document["rows"], network.nodes[network.output].size)
    count = len(rows)
    by_row = document["output_norm"] == "inf"
    if len(document["problems"]) != (count if by_row else 1):
        _reject("problems", f"it holds {len(document['problems'])} problems, not one per output row, or one")
    claimed = document["upper"]
    weight = float(count) if document["output_norm"] == "1" else 1.0
    for i, problem in enumerate(document["problems"]):
        weights = np.where(np.arange(count) == i, 1.0, 0.0) if by_row else np.full(count, weight)
        found = prover.bound(problem, rows, weights, document["norm"], claimed)
        if not found <= claimed:
            _reject("bound", f"its multipliers prove {found:.9g}, not {claimed:.9g}")
    return LipschitzCheck(
        claimed,
        document["norm"],
        document["output_norm"],
        len(document["problems"]),
        time.monotonic() - start if start else 0.0,
        bool(network.of(Kind.SCALAR)),
        document["region"] is not None,
        0 if document["rows"] is None else count,
    )


# ------------------------------------------------------------------ reading
def _reject(step: str, detail: str) -> NoReturn:
    raise CertificateRejected(step, detail)


def _invalid(what: str) -> NoReturn:
    raise CertificateInvalid(f"certificate: {what}; create it again")


def read_object(path: Path) -> Any:
    """What a file holds as JSON."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(data) > MAX_BYTES:
        raise LimitExceeded(f"{path}: over {MAX_BYTES} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_invalid)
    except (ValueError, RecursionError) as error:
        raise CertificateInvalid(f"{path}: no JSON ({error}); create it again") from None


def validated(document: Any) -> dict[str, Any]:
    """The object, if it has the shape of a certificate."""
    if not isinstance(document, dict) or set(document) != set(KEYS):
        _invalid("its keys are not those of a Lipschitz certificate")
    kinds = {key: kind if isinstance(kind, tuple) else (kind,) for key, kind in KEYS.items()}
    if any(type(document[key]) not in kinds[key] for key in KEYS):
        _invalid("a value has the wrong type")
    if document["format"] != FORMAT or document["version"] != VERSION:
        _invalid(f"it is no {FORMAT} of version {VERSION}")
    if document["norm"] not in NORMS or document["output_norm"] not in NORMS:
        _invalid("its norms are unknown")
    if not 0 <= document["upper"] < math.inf:
        _invalid("its bound is no number")
    check_problems(document["problems"])
    return document


def check_problems(problems: list[Any]) -> None:
    """Raises CertificateInvalid unless every problem has the right parts."""
    for problem in problems:
        if not isinstance(problem, dict) or set(problem) != {"relus", "scalars", "mu"}:
            _invalid("a problem has other keys than relus, scalars, mu")
        if type(problem["relus"]) is not list or type(problem["scalars"]) is not list:
            _invalid("multipliers are not listed per node")


def numbers(values: Any, size: int, what: str) -> Array:
    """A list of so many finite numbers."""
    if type(values) is not list or len(values) != size:
        _reject("numbers", f"{what} are not a list of {size} numbers")
    if any(type(v) not in (int, float) for v in values):
        _reject("numbers", f"{what} hold something that is no number")
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        array = np.array([np.inf])
    if not np.isfinite(array).all():
        _reject("numbers", f"{what} are not finite somewhere")
    return array


def _vector(values: Any, size: int, what: str) -> Array:
    array = numbers(values, size, what)
    if not (array >= 0).all():
        _reject("multipliers", f"{what} are negative somewhere")
    return array


def _region(region: Any, inputs: int) -> Where | None:
    if region is None:
        return None
    if set(region) != {"lo", "hi", "ball"}:
        _reject("region", "its keys are not lo, hi, ball")
    low, high = (numbers(region[key], inputs, f"its '{key}'") for key in ("lo", "hi"))
    if not np.all(low <= high):
        _reject("region", "it is empty")
    return Where(low, high, None if region["ball"] is None else _ball(region["ball"], inputs))


def _ball(ball: Any, inputs: int) -> Ball:
    if not isinstance(ball, dict) or set(ball) != {"centre", "radius", "norm"}:
        _reject("region", "its ball has other keys than centre, radius, norm")
    centre = numbers(ball["centre"], inputs, "the ball's centre")
    (radius,) = numbers([ball["radius"]], 1, "the ball's radius")
    if not radius >= 0 or type(ball["norm"]) is not int or ball["norm"] not in (1, 2):
        _reject("region", "its ball's radius or norm is no such thing")
    return Ball(tuple(Fraction(float(c)) for c in centre), Fraction(float(radius)), ball["norm"])


def _rows(rows: Any, outputs: int) -> Array:
    if rows is None:
        return np.eye(outputs)
    if not rows:
        _reject("rows", "there are none")
    return np.array([numbers(row, outputs, "a row") for row in rows])


# ------------------------------------------------------------------ proving
class Prover:
    """What is known of a network on a region, by how its rectifiers are merged."""

    def __init__(self, network: Network, where: Where | None) -> None:
        self.network, self.where = network, where
        self.known: dict[str, tuple[Network, Increments, Slopes]] = {}

    def bound(
        self, problem: Mapping[str, Any], rows: Array, weights: Array, norm: str, claimed: float
    ) -> float:
        """The bound on ``rows @ f`` that one problem's multipliers prove (infinite if none)."""
        merges = json.dumps([given if isinstance(given, dict) else None for given in problem["relus"]])
        network, lam = _multipliers(self.network, problem)
        if merges not in self.known:
            # first what has no increments, which is refused
            self.known[merges] = network, increments(network), slopes_on(network, self.where)
        network, chain, slopes = self.known[merges]
        outputs = _combined(rows, chain.c)
        mu = None if problem["mu"] is None else _vector(problem["mu"], network.nodes[0].size, "mu")
        with np.errstate(all="ignore"):
            return proved_bound(network, replace(chain, c=outputs), lam, slopes, weights, (norm, mu, claimed))


def _combined(rows: Array, c: Approximate) -> Approximate:
    """``rows @ c``."""
    grown = gamma(rows.shape[1] + 2)
    size = (np.abs(rows) @ c.size) * (1 + 2 * grown) + 2.0**-800
    return Approximate(rows @ c.value, size, (c.error + grown) * (1 + 2.0**-20))


def _multipliers(network: Network, problem: Mapping[str, Any]) -> tuple[Network, dict[int, Array]]:
    """Per nonlinear node its multipliers; rectifiers said to oppose others are rewritten, if that is true."""
    relus, scalars = network.of(Kind.RELU), network.of(Kind.SCALAR)
    if len(problem["relus"]) != len(relus) or len(problem["scalars"]) != len(scalars):
        _reject("multipliers", "their nodes are not those of the model")
    lam: dict[int, Array] = {}
    number = {node: i for i, node in enumerate(relus)}
    for node, given in zip((*relus, *scalars), (*problem["relus"], *problem["scalars"]), strict=True):
        if not isinstance(given, dict):
            lam[node] = _vector(given, network.nodes[node].size, f"those of '{network.nodes[node].name}'")
            continue
        like, sign = given.get("like"), given.get("sign")
        if set(given) != {"like", "sign"} or type(like) is not int or type(sign) is not int:
            _reject("multipliers", "a reference to another rectifier is malformed")
        if not 0 <= like < len(relus) or isinstance(problem["relus"][like], dict):
            _reject("multipliers", "a reference to another rectifier leads nowhere")
        try:
            network = opposite(network, number, relus[like], node, sign)
        except ValueError as error:
            _reject("multipliers", f"rectifier '{network.nodes[node].name}': {error}")
    return network, lam


__all__: Sequence[str] = (
    "LipschitzCheck",
    "Prover",
    "check_document",
    "check_lipschitz",
    "check_problems",
    "is_lipschitz_certificate",
    "numbers",
    "read_object",
    "validated",
)
