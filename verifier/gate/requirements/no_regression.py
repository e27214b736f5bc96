"""``kind = "no-regression"``: a figure is not worse than the baseline's by more than a margin."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from bounds.settings import key, near
from verifier.gate.baseline import Baseline, differences, read_baseline
from verifier.gate.report import Finding, Outcome
from verifier.gate.requirements.base import Common, Kind, Stated

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk

# kinds with a figure: which, and whether more is better
AGAIN = "make it again with 'verify gate --update-baseline'"
FIGURES = {"certified-accuracy": ("certified", True), "lipschitz": ("upper", False)}


@dataclass(frozen=True, slots=True)
class NoRegressionSettings(Common):
    """The proved figure of requirement ``of`` is not worse than in the baseline by more than ``by``."""

    of: str = key("", "id of a requirement of kind certified-accuracy or lipschitz", required=True)
    by: Fraction = key(Fraction(0), "how much worse it may be, in the figure's own units", least=0)


def _check(config: GateConfig, stated: Stated) -> None:
    s: NoRegressionSettings = stated.settings
    known = {r.settings.id: r.settings.kind for r in config.requirements if r.settings.kind in FIGURES}
    if s.of not in known:
        hint = near(s.of, known) if known else "state one of kind certified-accuracy or lipschitz"
        raise config.fail((*stated.key, "of"), f"'{s.of}' is no requirement with a figure; {hint}")


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: NoRegressionSettings = stated.settings
    now = desk.finding(s.of)
    name, more = FIGURES[now.kind]
    path = desk.config.resolve(desk.config.top.baseline)
    required = f"the figure of {s.of} is not worse than the baseline's by more than {float(s.by):g}"
    if now.outcome is Outcome.ERROR:
        raise BadInput(f"requirement '{s.of}' could not be looked at, so it has no figure")
    if desk.update_baseline:
        return _result(desk, stated, now, required, Outcome.HOLDS, "the baseline is written anew")
    entries = read_baseline(path)
    if s.of not in entries:
        raise BadInput(f"{path}: has no figure of '{s.of}'; {AGAIN}")
    before = entries[s.of]
    changed = differences(before.settings, now.settings)
    if changed:
        raise BadInput(
            f"{path}: the figure of '{s.of}' was made with other settings: {'; '.join(changed)}; "
            f"{AGAIN} if that is meant"
        )
    if name not in before.measured:
        raise BadInput(
            f"{path}: lacks '{name}' of '{s.of}'; make it again with 'verify gate --update-baseline'"
        )
    outcome, message = _compare(now, before, name, s.by, more=more)
    return _result(desk, stated, now, required, outcome, message)


def _compare(now: Finding, before: Baseline, name: str, by: Fraction, *, more: bool) -> tuple[Outcome, str]:
    """Three-valued: what is proved suffices, what can at most be does not, or neither."""
    value, base = Fraction(now.measured[name]), before.measured[name]
    told = f"{float(value):.6g} now, {float(base):.6g} in the baseline"
    if (value >= base - by) if more else (value <= base + by):
        return Outcome.HOLDS, told
    if more and Fraction(now.measured["at_most"]) < base - by:
        return (
            Outcome.VIOLATED,
            f"{told}; at most {float(Fraction(now.measured['at_most'])):.6g} can be proved",
        )
    return Outcome.INCONCLUSIVE, f"{told}; a longer search may prove more"


def _result(
    desk: Desk, stated: Stated, now: Finding, required: str, outcome: Outcome, message: str
) -> Finding:
    s = stated.settings
    return Finding(
        s.id,
        s.kind,
        s.about,
        now.model,
        desk.file,
        stated.line,
        required,
        outcome,
        f"{s.of}: {message}",
        now.value,
    )


KIND = Kind(NoRegressionSettings, _decide, models=(), check=_check)
