"""``kind = "vnnlib"``: property files whose violation must be impossible (``unsat``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bounds.errors import SpecError, SureboundError
from bounds.settings import key, near
from verifier.gate.prove import Answer, Ask, unusable
from verifier.gate.report import Counterexample, Finding, Outcome, Question
from verifier.gate.requirements.base import SEMANTICS, Common, Kind, Stated, worst
from verifier.gate.witness import counterexample
from verifier.spec.load import load
from verifier.verdict import Semantics

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk

SHOWN = 6


@dataclass(frozen=True, slots=True)
class VnnlibSettings(Common):
    """Every property file (VNN-LIB 1.0 or 2.0) holds: no input violates it."""

    model: str = key("", "name of the network", required=True)
    networks: tuple[str, ...] = key(
        (), 'for files about several networks: all of them, as "DECLARED=NAME" with names of [models]'
    )
    files: tuple[str, ...] = key((), "property files; * and ** match as in paths", required=True, single=True)
    semantics: str = key(
        "real", "what is proved is about: the reals, or float32 arithmetic", choices=SEMANTICS
    )


def matching(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern, sorted."""
    if not any(c in pattern for c in "*?["):
        return [folder / pattern]
    return sorted(p for p in folder.glob(pattern) if p.is_file())


def _pairs(s: VnnlibSettings) -> dict[str, str]:
    """Declared network -> name of the model."""
    return {
        declared.strip(): name.strip() for declared, _, name in (one.partition("=") for one in s.networks)
    }


def _check(config: GateConfig, stated: Stated) -> None:
    for declared, name in _pairs(stated.settings).items():
        if not declared or name not in config.models:
            hint = near(name, config.models) if declared and name else 'write "DECLARED=NAME"'
            told = f"'{declared}={name}' names no network of [models]; {hint}"
            raise config.fail((*stated.key, "networks"), told)
    if not stated.settings.files:
        raise config.fail((*stated.key, "files"), "'files' is empty; name at least one property file")
    for pattern in stated.settings.files:
        if pattern.startswith("/"):
            raise config.fail(
                (*stated.key, "files"), f"'{pattern}' is no relative path; write it relative to the file"
            )
        if not pattern or not pattern.isprintable():
            raise config.fail((*stated.key, "files"), f"{pattern!r} is no path; correct it")
        try:
            found = matching(config.folder, pattern)
        except (ValueError, NotImplementedError) as error:
            told = f"'{pattern}' is no pattern of paths ({error}); write it like properties/*.vnnlib"
            raise config.fail((*stated.key, "files"), told) from None
        missing = [f for f in found if not f.exists() and not f.with_name(f.name + ".gz").exists()]
        if missing or not found:
            what = f"'{pattern}' matches no file" if not found else f"'{pattern}' does not exist"
            raise config.fail(
                (*stated.key, "files"), f"{what} (looked in {config.folder.resolve()}); correct the path"
            )


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: VnnlibSettings = stated.settings
    network = desk.network(s.model)
    paths = list(dict.fromkeys(p for pattern in s.files for p in matching(desk.config.folder, pattern)))
    questions: list[Question] = []
    examples: list[Counterexample] = []
    for path in paths:
        name = desk.shown(path)
        try:
            prop = load(path, open_inputs=True)
            given = {declared: desk.network(one) for declared, one in _pairs(s).items()}
            given = given or {prop.networks[0].name: network}
            ask = Ask(name, prop, given, Semantics(s.semantics), name, 1)
            (answer,) = desk.prover.ask(s.id, [ask])
        except SureboundError as error:
            line = error.line if isinstance(error, SpecError) else 0
            questions.append(unusable(name, error, name, max(line, 1)))
            continue
        questions.append(answer.question)
        examples += _example(ask, answer)
    counts = {o: sum(q.outcome is o for q in questions) for o in Outcome}
    parts = [f"{n} {_WORDS[o]}" for o, n in counts.items() if n]
    return Finding(
        s.id, s.kind, s.about, network.path, desk.file, stated.line,
        f"{len(questions)} VNN-LIB properties hold ({s.semantics} arithmetic)",
        worst(q.outcome for q in questions), f"of {len(questions)} properties {', '.join(parts)}",
        f"{counts[Outcome.HOLDS]}/{len(questions)}",
        questions=tuple(questions), counterexamples=tuple(examples[:SHOWN]),
    )  # fmt: skip


_WORDS = {
    Outcome.HOLDS: "hold",
    Outcome.VIOLATED: "are violated",
    Outcome.INCONCLUSIVE: "are undecided",
    Outcome.ERROR: "cannot be used",
}


def _example(ask: Ask, answer: Answer) -> Sequence[Counterexample]:
    found = counterexample(ask, answer)
    return () if found is None else (found,)


KIND = Kind(VnnlibSettings, _decide, check=_check)
