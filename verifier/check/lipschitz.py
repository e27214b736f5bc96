"""Re-proves a Lipschitz certificate: multipliers in, a bound out, or a rejection.

Backwards through the levels, ``s' Q s`` bounds what a difference s of two runs can still become. For slopes
in [0, 1] and any ``lam >= 0``, ``2 w' diag(lam) (v - w) >= 0``; so Q' is a bound in front of a level if

    [Q' 0; 0 0] - H' Q H + [0, -D' L; -L D, 2 L] >= 0,    L = diag(lam).

Q' is guessed (a Schur complement plus a margin) and the inequality then proved: a symmetric matrix is
positive semidefinite if it is ``R R' + diag(c) + E`` and every absolute row sum of E is at most c
(Gershgorin). E holds all that was rounded or is not known exactly. Shares no code with the search
(docs/explanation/lipschitz.md).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bounds.errors import BadInput, CertificateInvalid, CertificateRejected, LimitExceeded
from verifier.check.importer import whole
from verifier.check.increments import Approximate, Level, U, gamma, increments, opposite
from verifier.check.main import load_model
from verifier.check.network import Array, Kind, Network
from verifier.check.slopes import slopes

FORMAT, VERSION = "surebound-lipschitz", 1
MAX_BYTES = 1 << 30
KEYS = {
    "format": str, "version": int, "model_sha256": str, "producer": str, "norm": str, "output_norm": str,
    "upper": float, "problems": list,
}  # fmt: skip
NORMS = ("1", "2", "inf")
ATTEMPTS = 10
FLAT = 1e-6  # coordinates whose share is smaller are scaled like this one: rounding may make them negative


@dataclass(frozen=True, slots=True)
class LipschitzCheck:
    """An accepted certificate: ``|f(x) - f(y)|_output_norm <= upper |x - y|_norm`` for all x, y.

    ``far``: the network has functions other than rectifiers, and all is said of inputs for which the
    magnitudes
    of their operands stay below :data:`verifier.check.slopes.FARTHEST`.
    """

    upper: float
    norm: str
    output_norm: str
    problems: int
    seconds: float
    far: bool


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
    document = _read(path)
    file = load_model(model)
    if file.digest != document["model_sha256"]:
        _reject("model", "it speaks about another file")
    return check_document(document, file.data, start)


def check_document(document: Mapping[str, Any], data: bytes, start: float = 0.0) -> LipschitzCheck:
    """As :func:`check_lipschitz`, from a validated object and the model's bytes."""
    network = whole(data)
    rows = network.nodes[network.output].size
    by_row = document["output_norm"] == "inf"
    if len(document["problems"]) != (rows if by_row else 1):
        _reject("problems", f"it holds {len(document['problems'])} problems, not one per output row, or one")
    claimed = document["upper"]
    weight = float(rows) if document["output_norm"] == "1" else 1.0
    for i, problem in enumerate(document["problems"]):
        weights = np.where(np.arange(rows) == i, 1.0, 0.0) if by_row else np.full(rows, weight)
        with np.errstate(all="ignore"):
            found = _prove(network, problem, weights, document["norm"], claimed)
        if not found <= claimed:
            _reject("bound", f"its multipliers prove {found:.9g}, not {claimed:.9g}")
    seconds = time.monotonic() - start if start else 0.0
    return LipschitzCheck(
        claimed,
        document["norm"],
        document["output_norm"],
        len(document["problems"]),
        seconds,
        bool(network.of(Kind.SCALAR)),
    )


# ------------------------------------------------------------------ reading
def _reject(step: str, detail: str) -> NoReturn:
    raise CertificateRejected(step, detail)


def _invalid(what: str) -> NoReturn:
    raise CertificateInvalid(f"certificate: {what}; create it again")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(data) > MAX_BYTES:
        raise LimitExceeded(f"{path}: over {MAX_BYTES} bytes")
    try:
        return validated(json.loads(data.decode("utf-8"), parse_constant=_invalid))
    except (ValueError, RecursionError) as error:
        raise CertificateInvalid(f"{path}: no JSON ({error}); create it again") from None


def validated(document: Any) -> dict[str, Any]:
    """The object, if it has the shape of a certificate."""
    if not isinstance(document, dict) or set(document) != set(KEYS):
        _invalid("its keys are not those of a Lipschitz certificate")
    if any(type(document[key]) is not kind for key, kind in KEYS.items()):
        _invalid("a value has the wrong type")
    if document["format"] != FORMAT or document["version"] != VERSION:
        _invalid(f"it is no {FORMAT} of version {VERSION}")
    if document["norm"] not in NORMS or document["output_norm"] not in NORMS:
        _invalid("its norms are unknown")
    if not 0 <= document["upper"] < math.inf:
        _invalid("its bound is no number")
    for problem in document["problems"]:
        if not isinstance(problem, dict) or set(problem) != {"relus", "scalars", "mu"}:
            _invalid("a problem has other keys than relus, scalars, mu")
        if type(problem["relus"]) is not list or type(problem["scalars"]) is not list:
            _invalid("multipliers are not listed per node")
    return document


def _vector(values: Any, size: int, what: str) -> Array:
    if type(values) is not list or len(values) != size:
        _reject("multipliers", f"{what} are not a list of {size} numbers")
    if any(type(v) not in (int, float) for v in values):
        _reject("multipliers", f"{what} hold something that is no number")
    array = np.array(values, dtype=np.float64)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        _reject("multipliers", f"{what} are negative or not finite somewhere")
    return array


# ------------------------------------------------------------------ proving
def _prove(network: Network, problem: Mapping[str, Any], weights: Array, norm: str, claimed: float) -> float:
    """The bound that one problem's multipliers prove (infinite if none)."""
    network, lam = _multipliers(network, problem)
    chain = increments(network)
    q = _terminal(chain.c, weights)
    for level in reversed(chain.levels):
        q = _back(network, level, np.concatenate([lam[i] for i in level.nodes]), q)
    mu = None if problem["mu"] is None else _vector(problem["mu"], network.nodes[0].size, "mu")
    square = _at_input(chain.x, q, norm, mu, claimed)
    return math.sqrt(square) * (1 + 2.0**-50) if square >= 0 else math.inf


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


def _terminal(c: Approximate, weights: Array) -> Array:
    q = (c.value.T * weights) @ c.value
    error = (2 * c.error + gamma(len(weights) + 4)) * (c.size.T @ (weights * c.size.sum(1)))
    return (q + q.T) / 2 + np.diag(2 * error + 4 * U * np.abs(np.diag(q)) + 1e-300)


def _back(network: Network, level: Level, lam: Array, q: Array) -> Array:
    """A proved Q in front of a level."""
    n = level.d.value.shape[1]
    d, h = _unit_slopes(network, level, n)
    m = len(lam)
    p = h.value.T @ q @ h.value
    p = (p + p.T) / 2
    cross = p[:n, n:] + (lam[:, None] * d.value).T
    inner = np.diag(2 * lam) - p[n:, n:]
    scale_w = _two(2 * lam)
    margin = 4 * (n + m) * gamma(n + m)
    for _ in range(ATTEMPTS):
        try:
            solved = np.linalg.solve(inner - np.diag(2 * margin / scale_w**2), cross.T)
        except np.linalg.LinAlgError:
            margin *= 8
            continue
        before = p[:n, :n] + cross @ solved
        before = (before + before.T) / 2
        top = max(float(np.max(np.diag(before), initial=0.0)), 1e-250)
        scale_s = _two(np.maximum(np.diag(before), FLAT * top))
        before = before + np.diag(2 * margin / scale_s**2)
        scale = np.concatenate([scale_s, scale_w])
        matrix = -p
        matrix[:n, :n] += before
        matrix[:n, n:] -= (lam[:, None] * d.value).T
        matrix[n:, :n] -= lam[:, None] * d.value
        matrix[n:, n:] += np.diag(2 * lam)
        row = (gamma(2 * len(q) + 12) + 2.01 * h.error) * (h.size.T @ (np.abs(q) @ (h.size @ scale)))
        row[:n] += (d.error + gamma(10)) * (d.size.T @ (lam * scale_w)) + gamma(10) * (
            np.abs(before) @ scale_s
        )
        row[n:] += (d.error + gamma(10)) * lam * (d.size @ scale_s) + gamma(10) * 2 * lam * scale_w
        if _positive(matrix, scale, row * scale * (1 + 1e-9), margin):
            return before
        margin *= 8
    _reject("step", f"the multipliers of '{network.nodes[level.nodes[0]].name}' prove nothing")


def _unit_slopes(network: Network, level: Level, n: int) -> tuple[Approximate, Approximate]:
    """The level with every slope range moved to [0, 1]: ``w = alpha v + (beta - alpha) w'``."""
    ends = [slopes(network.nodes[i]) for i in level.nodes]
    sizes = [network.nodes[i].size for i in level.nodes]
    alpha = np.repeat([a for a, _ in ends], sizes)
    beta = np.repeat([b for _, b in ends], sizes)
    if np.all(alpha == 0) and np.all(beta == 1):
        return level.d, level.h
    delta = np.nextafter(beta - alpha, np.inf)
    h, d = level.h, level.d
    value, size = h.value.copy(), h.size.copy()
    value[:, :n] += (h.value[:, n:] * alpha) @ d.value
    size[:, :n] += (h.size[:, n:] * np.abs(alpha)) @ d.size
    value[:, n:] *= delta
    size[:, n:] *= delta
    grown = gamma(len(alpha) + 6)
    error = (h.error + d.error + grown) * (1 + 2.0**-20)
    return d, Approximate(value, size * (1 + 2 * grown), error)


def _two(diagonal: Array) -> Array:
    """Powers of two near ``1 / sqrt(diagonal)``: scaling by them rounds nothing."""
    return np.ldexp(1.0, -(np.frexp(np.maximum(diagonal, 1e-280))[1] // 2))


def _positive(matrix: Array, scale: Array, row: Array, margin: float) -> bool:
    """Whether all symmetric matrices within ``row`` (absolute row sums, scaled) are positive semidefinite."""
    shifted = matrix * scale * scale[:, None]
    shifted[np.diag_indices_from(shifted)] -= margin
    try:
        r = np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    size = len(matrix)
    rest = np.abs(shifted - r @ r.T).sum(1)
    rest += gamma(size + 6) * (np.abs(r) @ np.abs(r).sum(0))
    rest += gamma(6) * (np.abs(shifted).sum(1) + margin)
    total = (rest + row) * (1 + 4 * gamma(size)) + size * 2.0**-1000
    return bool((total <= margin).all())


def _at_input(x: Approximate, q: Array, norm: str, mu: Array | None, claimed: float) -> float:
    """The squared bound: from ``dx' X' Q X dx`` to the unit ball of the norm."""
    p = x.value.T @ q @ x.value
    p = (p + p.T) / 2
    error = (gamma(2 * len(q) + 12) + 2.01 * x.error) * (1 + 1e-9)
    if norm == "1":
        own = (x.size * (np.abs(q) @ x.size)).sum(0)
        return float(np.max(np.diag(p) + 2 * error * own, initial=0.0)) * (1 + 1e-14)
    if norm == "2":
        top = np.full(len(p), claimed * claimed * (1 - 2.0**-48))
    else:
        shape = np.abs(p).sum(1) if mu is None else mu
        top = shape * (claimed * claimed / max(float(shape.sum()), 1e-300)) * (1 - 1e-12)
    scale = _two(top)
    row = scale * error * (x.size.T @ (np.abs(q) @ (x.size @ scale))) + gamma(8) * scale * (np.abs(p) @ scale)
    margin = float(row.max(initial=0.0)) * 2 + 4 * len(p) * gamma(len(p))
    for _ in range(ATTEMPTS):
        if _positive(np.diag(top) - p, scale, row + gamma(8) * top * scale * scale, margin):
            return float(top.max()) if norm == "2" else float(top.sum()) * (1 + gamma(len(top)))
        margin *= 4
    return math.inf


__all__: Sequence[str] = (
    "LipschitzCheck",
    "check_document",
    "check_lipschitz",
    "is_lipschitz_certificate",
    "validated",
)
