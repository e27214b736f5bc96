"""Gate reports of every outcome, with everything that formats must survive in their texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from verifier.gate.alerts import alerts
from verifier.gate.report import (
    ClassRow,
    Counterexample,
    CurvePoint,
    Finding,
    GateExit,
    GateReport,
    HardSample,
    ModelFact,
    Outcome,
    Question,
    Unknown,
)

ODD = 'a <b> & "c" | `d` %25 ::error:: \x07\x1b[31m, emoji 🙂\nsecond line ]]>'
FIGURE = Finding(
    "robust", "certified-accuracy", "why, in a sentence", "models/net.onnx", "surebound.toml", 12,
    "at least 0.9 of 4 samples are certified at radius 0.1 in the inf-norm", Outcome.VIOLATED,
    "2 of 4 samples (0.5000) are certified", "0.5000", "0.7500", 1.25,
    questions=(
        Question("sample 0, radius 0.1", Outcome.HOLDS, source="cache", certificate="c/0.sbcert"),
        Question("sample 1, radius 0.1", Outcome.VIOLATED, source="proved", seconds=1.0, domains=7),
        Question("sample 2, radius 0.1", Outcome.INCONCLUSIVE, "the time limit was reached"),
    ),
    counterexamples=(
        Counterexample(
            "sample 1, radius 0.1", tuple(i / 64 for i in range(64)), tuple(i / 70 for i in range(64)),
            (1, 8, 8),
            (0.5, 1.0, -2.0), 0, 1, "replayed", "c/1.sbcert", "sample 1 of class 0 becomes class 1",
        ),
    ),
    curve=(CurvePoint("0", 0.0, 1.0, 1.0, 4, 0, 0), CurvePoint("0.1", 0.1, 0.5, 0.75, 2, 1, 1)),
    classes=(ClassRow(0, 2, 2, 1, 1, 0), ClassRow(1, 2, 2, 1, 0, 1)),
    hardest=(HardSample("1", 0, Outcome.VIOLATED, "a counterexample within radius 0.1"),),
    notes=("axes were moved",),
    settings={"norm": "inf", "samples": 4},
    measured={"certified": "1/2"},
)  # fmt: skip
PROPERTIES = Finding(
    "safe", "vnnlib", "", "models/other net.onnx", "surebound.toml", 30, "3 properties hold", Outcome.ERROR,
    "of 3 properties 1 hold, 1 are violated, 1 cannot be used",
    questions=(
        Question("p/a.vnnlib", Outcome.HOLDS, source="proved", file="p/a.vnnlib", line=1),
        Question("p/b c.vnnlib", Outcome.VIOLATED, source="proved", file="p/b c.vnnlib", line=1),
        Question("p/d.vnnlib", Outcome.ERROR, ODD, file="p/d.vnnlib", line=7),
    ),
    counterexamples=(
        Counterexample(
            "p/b c.vnnlib", (1.0, 2.0), (), (2,), (0.5,), -1, -1, "rigorous", "", "the outputs are (0.5)"
        ),
    ),
)  # fmt: skip
OPEN = replace(FIGURE, id="open", outcome=Outcome.INCONCLUSIVE, message=ODD, counterexamples=(), about=ODD)
HOLDS = replace(
    FIGURE,
    id="fine",
    outcome=Outcome.HOLDS,
    message="proved",
    counterexamples=(),
    questions=(),
    hardest=(),
    curve=(),
)
BROKEN = Finding("broken", "lipschitz", "", "", "surebound.toml", 40, "lipschitz", Outcome.ERROR, ODD)


def report(
    outcome: Outcome,
    *findings: Finding,
    unknown: Unknown = Unknown.FAIL,
    rejected: bool = False,
    seconds: float = 2.5,
) -> GateReport:
    refused = [("cache/x.sbcert", "certificate rejected at step 'rows'")] if rejected else []
    told = tuple(alerts(findings, refused, "surebound.toml", Path.as_posix, unknown))
    code = (
        GateExit.HOLDS
        if outcome is Outcome.INCONCLUSIVE and unknown is not Unknown.FAIL
        else GateExit[outcome.name]
    )
    return GateReport(
        "surebound.toml", outcome, code, unknown, findings, told,
        (ModelFact("net", "models/net.onnx", "a" * 64),),
        3, 4, len(refused), seconds, 0, "0.1.0", {"python": "3.11"}, ("the cache cannot be written",),
    )  # fmt: skip


REPORTS = {
    "holds": report(Outcome.HOLDS, HOLDS),
    "violated": report(Outcome.VIOLATED, FIGURE, HOLDS),
    "error": report(Outcome.ERROR, FIGURE, PROPERTIES, OPEN, BROKEN, rejected=True),
    "inconclusive": report(Outcome.INCONCLUSIVE, OPEN, HOLDS),
    "inconclusive, tolerated": report(Outcome.INCONCLUSIVE, OPEN, unknown=Unknown.WARN),
    "inconclusive, let pass": report(Outcome.INCONCLUSIVE, OPEN, unknown=Unknown.PASS),
    "rejected": report(Outcome.HOLDS, HOLDS, rejected=True),
}
