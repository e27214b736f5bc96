"""``kind = "certified-accuracy"``: enough samples keep their class within a radius, provably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from bounds.settings import key
from verifier.gate.prove import Answer, Ask, Loaded
from verifier.gate.report import (
    ClassRow,
    Counterexample,
    CurvePoint,
    Finding,
    HardSample,
    Outcome,
    Question,
)
from verifier.gate.requirements.base import SEMANTICS, Common, Kind, Stated
from verifier.gate.samples import Choice, GateSamples
from verifier.gate.witness import outputs_of
from verifier.problem import float64_box
from verifier.robustness.points import plans, right_and_wrong
from verifier.spec.robustness import local_robustness
from verifier.verdict import Semantics, Status

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk

SHOWN, HARDEST = 6, 20
BLOCK = 64  # samples bounded at once


@dataclass(frozen=True, slots=True)
class AccuracySettings(Common):
    """Share of samples whose class provably holds in a ball around each is at least ``at_least``."""

    model: str = key("", "name of a classifier: the largest output wins, ties lose", required=True)
    data: str = key("", "name of the samples", required=True)
    radius: Fraction = key(
        Fraction(0), "of the balls, in the units of number / scale", required=True, above=0
    )
    norm: str = key("inf", "of the balls", choices=("inf", "2", "1"))
    at_least: Fraction = key(Fraction(0), "share that must be certified, from 0 to 1", required=True, least=0)
    samples: int | None = key(None, "how many samples; not given: all", least=1)
    seed: int | None = key(None, "of choosing them; not given: the file's", least=0)
    stratified: bool = key(True, "equally many samples of every label, as far as there are")
    semantics: str = key(
        "real", "what is proved is about: the reals, or float32 arithmetic", choices=SEMANTICS
    )
    curve: tuple[Fraction, ...] = key((), "more radii, for the curve of certified accuracy", above=0)


@dataclass(slots=True)
class _Table:
    """Per radius (ascending) and sample: certified, broken; what is neither is open."""

    radii: list[Fraction]
    certified: Array
    broken: Array

    def apply(self, k: int, i: int, status: Status) -> None:
        """A proof holds for smaller radii, a counterexample for larger ones."""
        if status is Status.UNSAT:
            self.certified[: k + 1, i] = True
        elif status is Status.SAT:
            self.broken[k:, i] = True
        if (self.certified[:, i] & self.broken[:, i]).any():
            raise AssertionError(f"sample {i} is proved robust and shown broken at one radius")


def _check(config: GateConfig, stated: Stated) -> None:
    if stated.settings.at_least > 1:
        raise config.fail((*stated.key, "at_least"), "'at_least' is above 1; give a share from 0 to 1")


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: AccuracySettings = stated.settings
    network = desk.network(s.model)
    seed = desk.config.top.seed if s.seed is None else s.seed
    samples = desk.samples(s.data, network, Choice(s.samples, seed, s.stratified))
    if network.model.graph.output_size < 2:
        raise BadInput(f"{network.path}: has one output; a classifier has at least two")
    right, wrong = _clean(network, samples, Semantics(s.semantics))
    radii = sorted({s.radius, *s.curve})
    shape = (len(radii), len(samples.labels))
    table = _Table(radii, np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool))
    table.broken[:, wrong] = True
    answers: dict[tuple[int, int], Answer] = {}
    main = radii.index(s.radius)
    # what the required radius proves or refutes settles most of the others
    for k in (main, *reversed(range(main)), *range(main + 1, len(radii))):
        todo = np.flatnonzero(~table.certified[k] & ~table.broken[k]).tolist()
        asks = [_ask(network, samples, i, radii[k], s) for i in todo]
        for i, answer in zip(todo, desk.prover.ask(s.id, asks), strict=True):
            answers[k, i] = answer
            table.apply(k, i, answer.status)
    return _finding(desk, stated, network, samples, table, answers, right, wrong)


def _ask(network: Loaded, samples: GateSamples, i: int, radius: Fraction, s: AccuracySettings) -> Ask:
    region = samples.region(i, radius, s.norm)
    prop = local_robustness(region, label=samples.labels[i], outputs=network.model.graph.output_size)
    return Ask(_named(samples, i, radius), prop, {"": network}, Semantics(s.semantics))


def _clean(network: Loaded, samples: GateSamples, semantics: Semantics) -> tuple[Array, Array]:
    """``N`` bool twice: proved right, and proved wrong, at the (exact) samples themselves.

    Soundness: bounds on a box that holds the exact point. At level float32 a network is only fed float32
    numbers, so a sample that is none cannot be what refutes.
    """
    from bounds.methods.rule import Rule, relax_boxes

    _, plan = plans(network.model.graph, network=semantics is Semantics.FLOAT32)
    fed = [samples.region(i, Fraction(0), "inf").lower for i in range(len(samples.points))]
    boxes = [float64_box(z, z) for z in fed]
    lo, hi = (np.stack([box[side] for box in boxes]) for side in (0, 1))
    lows: list[Array] = []
    highs: list[Array] = []
    for start in range(0, len(lo), BLOCK):
        part = slice(start, start + BLOCK)
        with np.errstate(all="ignore"):
            tape = relax_boxes(plan, lo[part], hi[part], Rule(forward=False, refine=False))
        ends = [tape.outputs[slot] for slot in plan.outputs]
        lows.append(np.concatenate([e[0] for e in ends], axis=1))
        highs.append(np.concatenate([e[1] for e in ends], axis=1))
    right, wrong = right_and_wrong(np.concatenate(lows), np.concatenate(highs), np.array(samples.labels))
    if semantics is Semantics.FLOAT32:
        wrong &= [all(Fraction(float(np.float32(v))) == v for v in z) for z in fed]
    return right, wrong


def _finding(  # noqa: PLR0913 - everything that was found
    desk: Desk,
    stated: Stated,
    network: Loaded,
    samples: GateSamples,
    table: _Table,
    answers: dict[tuple[int, int], Answer],
    right: Array,
    wrong: Array,
) -> Finding:
    s: AccuracySettings = stated.settings
    total, main = len(samples.labels), table.radii.index(s.radius)
    certified, broken = int(table.certified[main].sum()), int(table.broken[main].sum())
    lower, upper = Fraction(certified, total), 1 - Fraction(broken, total)
    outcome = (
        Outcome.HOLDS
        if lower >= s.at_least
        else Outcome.VIOLATED
        if upper < s.at_least
        else Outcome.INCONCLUSIVE
    )
    radius, where = _text(s.radius), f"{s.norm}-norm"
    required = (
        f"at least {_share(s.at_least)} of {total} samples are certified at radius {radius} in the {where}"
    )
    message = (
        f"{certified} of {total} samples ({_share(lower)}) are certified at radius {radius} in the {where}, "
        f"at most {_share(upper)} can be; required are {_share(s.at_least)}"
    )
    examples = _examples(samples, answers, table.radii)
    points = [_point(table, k, total) for k in range(len(table.radii))]
    clean = CurvePoint(
        "0", 0.0, float(right.mean()), 1 - float(wrong.mean()), int(right.sum()), int(wrong.sum()),
        total - int(right.sum()) - int(wrong.sum()),
    )  # fmt: skip
    questions = [_question(table, answers, samples, i, main, wrong) for i in range(total)]
    questions += [a.question for (k, _), a in sorted(answers.items()) if k != main]
    settings = {
        "model": network.path, "norm": s.norm, "radius": str(s.radius), "semantics": s.semantics,
        "samples": total, "samples_sha256": samples.sha256,
    }  # fmt: skip
    return Finding(
        s.id, s.kind, s.about, network.path, desk.file, stated.line, required, outcome, message,
        _share(lower), _share(upper),
        questions=tuple(questions),
        counterexamples=tuple(examples[:SHOWN]),
        curve=(clean, *points),
        classes=tuple(_classes(samples, table, main, right)),
        hardest=tuple(_hardest(table, answers, samples, main, wrong)[:HARDEST]),
        notes=samples.notes,
        settings=settings,
        measured={
            "certified": str(lower), "at_most": str(upper), "clean": str(Fraction(int(right.sum()), total)),
        },
    )  # fmt: skip


def _question(
    table: _Table,
    answers: dict[tuple[int, int], Answer],
    samples: GateSamples,
    i: int,
    main: int,
    wrong: Array,
) -> Question:
    """The answer about a sample at the required radius."""
    if (main, i) in answers:
        return answers[main, i].question
    assert wrong[i] or table.broken[main, i] or table.certified[main, i]
    return Question(_named(samples, i, table.radii[main]), Outcome.VIOLATED, source="clean")


def _point(table: _Table, k: int, total: int) -> CurvePoint:
    certified, broken = int(table.certified[k].sum()), int(table.broken[k].sum())
    radius = table.radii[k]
    return CurvePoint(
        _text(radius), float(radius), certified / total, 1 - broken / total, certified, broken,
        total - certified - broken,
    )  # fmt: skip


def _classes(samples: GateSamples, table: _Table, k: int, right: Array) -> list[ClassRow]:
    labels = np.array(samples.labels)
    rows: list[ClassRow] = []
    for label in np.unique(labels).tolist():
        mine = labels == label
        certified, broken = int(table.certified[k, mine].sum()), int(table.broken[k, mine].sum())
        count = int(mine.sum())
        rows.append(
            ClassRow(label, count, int(right[mine].sum()), certified, broken, count - certified - broken)
        )
    return rows


def _hardest(
    table: _Table, answers: dict[tuple[int, int], Answer], samples: GateSamples, main: int, wrong: Array
) -> list[HardSample]:
    """Wrong at the point, then broken, then open with the worst bound first."""
    found: list[tuple[tuple[int, float], HardSample]] = []
    for i, (name, label) in enumerate(zip(samples.names, samples.labels, strict=True)):
        if table.certified[main, i]:
            continue
        if wrong[i]:
            order, outcome, text = (0, 0.0), Outcome.VIOLATED, "another class wins at the sample itself"
        elif table.broken[main, i]:
            k = int(np.argmax(table.broken[:, i]))
            order, outcome = (1, float(table.radii[k])), Outcome.VIOLATED
            text = f"a counterexample within radius {_text(table.radii[k])}"
        else:
            answer = answers[main, i]
            bound = answer.lower_bound
            order, outcome = (2, -np.inf if bound is None else bound), Outcome.INCONCLUSIVE
            text = answer.question.message
        found.append((order, HardSample(name, label, outcome, text)))
    return [sample for _, sample in sorted(found, key=lambda f: f[0])]


def _examples(
    samples: GateSamples, answers: dict[tuple[int, int], Answer], radii: Sequence[Fraction]
) -> list[Counterexample]:
    """Counterexamples, those of the smallest radii first."""
    found: list[Counterexample] = []
    for (k, i), answer in sorted(answers.items()):
        if answer.witness is None or len(found) >= SHOWN:
            continue
        outputs = outputs_of(answer.witness)
        label = samples.labels[i]
        others = [(v, j) for j, v in enumerate(outputs) if j != label]
        winner = max(others)[1]
        point = samples.scaling.to_data(answer.witness.x)
        within = f"within radius {_text(radii[k])}"
        text = f"sample {samples.names[i]} of class {label} becomes class {winner} {within}"
        found.append(
            Counterexample(
                answer.question.name,
                tuple(map(float, point)),
                tuple(map(float, samples.points[i])),
                samples.shape,
                outputs,
                label,
                winner,
                answer.witness.kind,
                answer.question.certificate,
                text,
            )
        )
    return found


def _named(samples: GateSamples, i: int, radius: Fraction) -> str:
    return f"sample {samples.names[i]}, radius {_text(radius)}"


def _text(value: Fraction) -> str:
    """A radius as people write it: a short decimal where there is one, parts of 255, or the quotient."""
    short, parts = f"{float(value):.6g}", value * 255
    if Fraction(short) == value:
        return short
    return f"{parts.numerator}/255" if parts.denominator == 1 else str(value)


def _share(value: Fraction) -> str:
    return f"{float(value):.4f}"


KIND = Kind(AccuracySettings, _decide, data=True, check=_check)
