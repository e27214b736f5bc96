"""``assert_lipschitz``: how much a network can stretch the distance between two inputs, proved."""

from __future__ import annotations

import math
import time
from typing import Any

from bounds.errors import BadInput
from sdp.api import Effort, lipschitz
from sdp.region import Region
from sdp.result import LipschitzBound
from verifier.testing.errors import NotLipschitz, check_policy, undecided
from verifier.testing.settings import Outcome, leave, resolve


def assert_lipschitz(  # noqa: PLR0913 - the problem first, options keyword-only
    model: Any,
    constant: float,
    *,
    norm: object = None,
    output_norm: object = None,
    region: Region | None = None,
    example: Any = None,
    method: str | None = None,
    timeout: float | None = None,
    seed: int | None = None,
    undecided: str | None = None,
) -> LipschitzBound:
    """Asserts that ``|f(x) - f(y)| <= constant * |x - y|`` is proved for all pairs of inputs.

    Arguments that are not given come from the marker ``lipschitz``, then from the configuration.

    Args:
        model: ONNX file, loaded ``Model`` or ``torch.nn.Module``.
        constant: the largest stretch allowed, at its exact binary value.
        norm: of inputs: 2 (default), 1 or "inf".
        output_norm: of outputs; by default that of the inputs.
        region: only pairs in this set count (``sdp.Region.around``).
        example: for a module whose first layer is not linear: a tensor of the input's shape, or the shape.
        method: one of ``sdp.NAMES``; "auto" unless given.
        timeout: seconds of searching; 60 unless configured.
        seed: of the sampled lower bound.
        undecided: "fail" (default), "skip" or "warn", where the proved bound is too large and no sampled
            pair stretches as much.

    Returns:
        The bound; its ``upper`` is at most ``constant`` unless ``undecided`` let it pass.

    Raises:
        NotLipschitz: a sampled pair is stretched by more (in floating point: nearly always, but not
            rigorously, a refutation).
        Undecided: the proved bound is larger, and ``undecided`` is "fail".
        SureboundError: an argument cannot be used, or the network has no bounded slope.
    """
    given = {
        "norm": norm, "output_norm": output_norm, "method": method, "timeout": timeout, "seed": seed,
        "undecided": undecided,
    }  # fmt: skip
    __tracebackhide__ = True  # pytest then points at the test's own line
    settings = resolve("lipschitz", given)
    check_policy(settings["undecided"])
    limit = _checked(constant)
    started = time.monotonic()
    bound = lipschitz(
        model,
        norm=settings["norm"],
        output_norm=settings["output_norm"],
        method=settings["method"],
        region=region,
        effort=Effort(seconds=settings["timeout"], seed=settings["seed"]),
        example=example,
    )
    return _judge(bound, limit, time.monotonic() - started, settings["undecided"])


def _checked(constant: object) -> float:
    if isinstance(constant, bool) or not isinstance(constant, int | float) or not constant >= 0:
        raise BadInput(f"the constant is {constant!r}; give a number of at least 0")
    if math.isinf(constant):
        raise BadInput("the constant is infinite, and a test against it would always pass; give a number")
    return float(constant)


def _judge(bound: LipschitzBound, limit: float, seconds: float, policy: str) -> LipschitzBound:
    """Passes only where the proved bound is within the limit; a NaN is not."""
    __tracebackhide__ = True
    where = "on the region" if bound.local else "everywhere"
    norms = f"{bound.norm}-norm to {bound.output_norm}-norm, {where}"
    claim = f"Lipschitz constant at most {limit:.9g}, {norms}"
    facts = f"proved at most {bound.upper!r} by {bound.method}, sampled at least {bound.lower:.9g}"
    proved = bound.upper <= limit
    verdict = "proved" if proved else "falsified" if bound.lower > limit else "undecided"
    leave(Outcome("assert_lipschitz", claim, verdict, seconds, facts))
    if proved:
        return bound
    if bound.lower > limit:
        raise NotLipschitz(
            f"not {limit:.9g}-Lipschitz ({norms}): a sampled pair of inputs is stretched by "
            f"{bound.lower:.9g}; {facts}"
        )
    notes = "".join(f"\n  note: {note}" for note in bound.notes)
    undecided(
        f"undecided whether the network is {limit:.9g}-Lipschitz ({norms}): {facts}{notes}\n"
        "  what would help: more time (timeout=), another method (method=; 'verify lipschitz --compare' "
        "shows them all), or a region",
        policy,
    )
    return bound
