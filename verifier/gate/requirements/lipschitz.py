"""``kind = "lipschitz"``: a network cannot stretch distances by more than a factor."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from bounds.settings import key
from verifier.gate.cache import key_of
from verifier.gate.pairs import Pair, steep_pair
from verifier.gate.prove import Loaded
from verifier.gate.report import Counterexample, Finding, Outcome, Question
from verifier.gate.requirements.base import Common, Kind, Stated
from verifier.lipschitz_certificate import bound_certificate

if TYPE_CHECKING:
    from verifier.gate.run import Desk

NORMS = ("1", "2", "inf")


@dataclass(frozen=True, slots=True)
class LipschitzSettings(Common):
    """``|f(x) - f(y)| <= at_most |x - y|`` for all inputs x and y (of the network, after preprocessing)."""

    model: str = key("", "name of the network", required=True)
    at_most: Fraction = key(Fraction(0), "largest constant allowed", required=True, above=0)
    norm: str = key("2", "of inputs", choices=NORMS)
    output_norm: str = key("", "of outputs; empty: that of inputs", choices=("", *NORMS))


@dataclass(frozen=True, slots=True)
class _Bound:
    """A proved constant."""

    upper: float
    source: str
    certificate: str
    notes: tuple[str, ...]


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: LipschitzSettings = stated.settings
    network = desk.network(s.model)
    norms = (s.norm, s.output_norm or s.norm)
    begun = time.monotonic()
    bound = _bound(desk, s, network, norms)
    # the bound is a float that is proved; the comparison with the decimal of the file is exact
    holds = Fraction(bound.upper) <= s.at_most
    pair = None if holds or desk.prover.over() else steep_pair(network, norms, s.at_most, desk.prover.seed)
    outcome = Outcome.HOLDS if holds else Outcome.INCONCLUSIVE if pair is None else Outcome.VIOLATED
    required = f"the Lipschitz constant ({norms[0]}-norm to {norms[1]}-norm) is at most {float(s.at_most):g}"
    proved = f"{bound.upper:.6g} is proved"
    message = {
        Outcome.HOLDS: f"{required}: {proved}",
        Outcome.INCONCLUSIVE: f"not decided whether {required}: {proved}, and no two inputs show more",
        Outcome.VIOLATED: f"violated: {required}; {'' if pair is None else pair.text}",
    }[outcome]
    question = Question(
        "Lipschitz constant", outcome, "" if outcome is not Outcome.INCONCLUSIVE else proved, bound.source,
        time.monotonic() - begun, 0, bound.certificate,
    )  # fmt: skip
    settings = {"model": network.path, "norm": norms[0], "output_norm": norms[1]}
    return Finding(
        s.id, s.kind, s.about, network.path, desk.file, stated.line, required, outcome, message,
        f"{bound.upper:.6g}", questions=(question,), notes=bound.notes, settings=settings,
        counterexamples=() if pair is None else (_example(pair),),
        measured={"upper": str(Fraction(bound.upper))},
    )  # fmt: skip


def _bound(desk: Desk, s: LipschitzSettings, network: Loaded, norms: tuple[str, str]) -> _Bound:
    """A proved constant: a kept one that the checker accepts and that suffices, else a new one."""
    import sdp

    cache = desk.prover.cache
    name = key_of({"": network.checked.digest}, f"lipschitz {norms[0]} {norms[1]}", "real")
    kept = cache.look_lipschitz(name, network.checked, norms)
    if kept is not None and Fraction(kept.upper) <= s.at_most:
        return _Bound(kept.upper, "cache", str(kept.file), ())
    seconds = min(x for x in (desk.prover.limits.query, desk.prover.left, 120.0) if x is not None)
    effort = sdp.Effort(seconds=max(seconds, 0.1), sampling=None, seed=desk.prover.seed)
    bound = sdp.lipschitz(network.model, norm=norms[0], output_norm=norms[1], effort=effort)
    notes = list(bound.notes)
    try:
        text = bound_certificate(bound, network.model)
    except BadInput as error:
        return _Bound(bound.upper, "proved", "", (*notes, f"proved, but not kept: {error}"))
    draft = cache.draft(name, ".json")
    if draft is not None:
        try:
            draft.write_text(text, encoding="utf-8")
        except OSError as error:
            cache.note(f"a proof could not be kept ({error.strerror or error})")
            draft = None
    place = cache.keep(draft, name, about=(s.id, "Lipschitz constant"), models={"": network.checked.digest})
    # certificates claim a little less than the search proved; their claim is the figure, so that it repeats
    claim = float(json.loads(text)["upper"])
    return _Bound(max(claim, bound.upper), "proved", "" if place is None else str(place), tuple(notes))


def _example(pair: Pair) -> Counterexample:
    return Counterexample(
        "Lipschitz constant", pair.second, pair.first, (), (), -1, -1, "rigorous", "", pair.text
    )


KIND = Kind(LipschitzSettings, _decide)
