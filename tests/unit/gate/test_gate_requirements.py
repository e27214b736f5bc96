"""Every kind of requirement: holds, violated and inconclusive on networks whose truth is known."""

from __future__ import annotations

from pathlib import Path

import gate_nets as nets
import numpy as np
import onnxruntime
import pytest
from gate_nets import decide, only

from verifier.gate.report import GateExit, Outcome, Unknown
from verifier.gate.requirements.base import worst
from verifier.gate.run import run

TABLES = """
[models.net]
path = "net.onnx"
[data.d]
path = "d.npz"
"""


def accuracy(radius: str, at_least: str, more: str = "", data: str = "") -> str:
    """A requirement of certified accuracy; ``more`` and ``data`` are further keys of it and of the data."""
    return (
        f'{TABLES}{data}\n[[requirement]]\nid = "r"\nkind = "certified-accuracy"\nmodel = "net"\ndata = "d"\n'
        f"radius = {radius}\nat_least = {at_least}\n{more}\n"
    )


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Margins of 0.4, 1, 2 and (wrong) -1; the radius that each stands is half of it in the inf-norm."""
    nets.halves(tmp_path / "net.onnx")
    nets.samples(tmp_path / "d.npz", [[0.4, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]], [0, 0, 1, 0])
    return tmp_path


def test_certified_accuracy_counts(classifier: Path) -> None:
    report = decide(accuracy("0.3", "0.5", "curve = [0.1, 0.9]"), classifier)
    finding = only(report)
    assert (finding.outcome, report.exit_code) == (Outcome.HOLDS, GateExit.HOLDS)
    told = {p.radius: (p.certified, p.broken, p.open) for p in finding.curve}
    assert told == {"0": (3, 1, 0), "0.1": (3, 1, 0), "0.3": (2, 2, 0), "0.9": (1, 3, 0)}
    assert finding.measured == {"certified": "1/2", "at_most": "1/2", "clean": "3/4"}
    assert [(c.label, c.samples, c.correct, c.certified, c.broken) for c in finding.classes] == [
        (0, 3, 2, 1, 2),
        (1, 1, 1, 1, 0),
    ]
    assert [h.name for h in finding.hardest] == ["3", "0"]


def test_certified_accuracy_violated_with_a_counterexample(classifier: Path) -> None:
    report = decide(accuracy("0.3", "0.75"), classifier)
    finding = only(report)
    assert (finding.outcome, report.exit_code) == (Outcome.VIOLATED, GateExit.VIOLATED)
    (example,) = finding.counterexamples
    x = np.array(example.inputs)
    assert np.abs(x - [0.4, 0]).max() <= 0.3 and x[1] >= x[0]
    session = onnxruntime.InferenceSession(classifier / "net.onnx")
    (y,) = session.run(None, {"x": x[None].astype(np.float32)})
    assert y[0].tolist() == list(example.outputs) and y[0, 1] >= y[0, 0]
    assert (example.label, example.winner) == (0, 1)


@pytest.mark.parametrize(("norm", "radius", "holds"), [("1", "0.39", 3), ("2", "0.28", 3), ("2", "0.29", 2)])
def test_other_norms(classifier: Path, norm: str, radius: str, holds: int) -> None:
    """A margin m stands m in the 1-norm and m / sqrt(2) in the 2-norm."""
    finding = only(decide(accuracy(radius, "0", f'norm = "{norm}"'), classifier))
    assert finding.curve[1].certified == holds


def test_the_radius_is_in_the_units_before_mean_and_std(tmp_path: Path) -> None:
    """The network sees (v - 0.5) / 0.25, so a margin of m in v is one of 4 m to it."""
    nets.halves(tmp_path / "net.onnx")
    nets.samples(tmp_path / "d.npz", np.array([[0.6, 0.2]]), [0])
    text = accuracy("0.1999999", "1", data="mean = 0.5\nstd = [0.25, 0.25]")
    assert only(decide(text, tmp_path)).outcome is Outcome.HOLDS
    finding = only(decide(accuracy("0.2000001", "1", data="mean = 0.5\nstd = 0.25"), tmp_path))
    assert finding.outcome is Outcome.VIOLATED
    assert np.abs(np.array(finding.counterexamples[0].inputs) - [0.6, 0.2]).max() <= 0.2000001


@pytest.mark.parametrize(
    ("unknown", "code"),
    [(Unknown.FAIL, GateExit.INCONCLUSIVE), (Unknown.WARN, GateExit.HOLDS), (Unknown.PASS, GateExit.HOLDS)],
)
def test_inconclusive_within_a_budget_of_subproblems(
    tmp_path: Path, unknown: Unknown, code: GateExit
) -> None:
    """Bounds of the whole ball do not show it, splits do."""
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(6, 24)), rng.normal(size=24)), (rng.normal(size=(24, 3)), [0, 0, 20])]
    nets.dense(tmp_path / "net.onnx", layers)
    nets.samples(tmp_path / "d.npz", [[0.0] * 6], [2])
    text = accuracy("0.5", "1")
    report = decide(text, tmp_path, unknown=unknown, max_domains=1)
    finding = only(report)
    assert finding.outcome is Outcome.INCONCLUSIVE, finding.message
    assert report.exit_code == code
    assert report.alerts[0].level == {"fail": "error", "warn": "warning", "pass": "note"}[unknown.value]
    assert "raise max_domains in [budget]" in finding.questions[0].message
    assert only(decide(text, tmp_path)).outcome is Outcome.HOLDS


VNNLIB = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
BOX = "".join(f"(assert (>= X_{i} {a}))(assert (<= X_{i} {b}))" for i, a, b in ((0, 0.5, 1), (1, 0, 0.25)))


def test_vnnlib_files(tmp_path: Path) -> None:
    nets.halves(tmp_path / "net.onnx")
    (tmp_path / "good.vnnlib").write_text(VNNLIB + BOX + "(assert (>= Y_1 Y_0))")
    (tmp_path / "bad.vnnlib").write_text(VNNLIB + BOX + "(assert (>= Y_1 0.2))")
    (tmp_path / "ugly.vnnlib").write_text(VNNLIB + BOX + "\n(assert (>= Y_1 Z))")
    text = '[models.net]\npath = "net.onnx"\n[[requirement]]\nid = "v"\nkind = "vnnlib"\nmodel = "net"\n'
    report = decide(text + 'files = "good.vnnlib"', tmp_path)
    assert report.outcome is Outcome.HOLDS and not report.alerts
    report = decide(text + 'files = ["good.vnnlib", "bad.vnnlib"]', tmp_path)
    assert (report.outcome, report.exit_code) == (Outcome.VIOLATED, GateExit.VIOLATED)
    (alert,) = report.alerts
    assert (
        alert.file.endswith("bad.vnnlib") and alert.rule.id == "SB001" and alert.related.endswith("net.onnx")
    )
    report = decide(text + 'files = "*.vnnlib"', tmp_path)
    assert (report.outcome, report.exit_code) == (Outcome.ERROR, GateExit.ERROR)
    assert [q.outcome.value for q in only(report).questions] == ["violated", "holds", "error"]
    assert {(Path(a.file).name, a.line, a.rule.id) for a in report.alerts} == {
        ("bad.vnnlib", 1, "SB001"),
        ("ugly.vnnlib", 2, "SB003"),
    }


TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1, 2]) (declare-output Y real [1, 2]))
(declare-network g (declare-input A real [1, 2]) (declare-output B real [1, 2]))
(assert (and (>= X[0,0] 0.5) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 0.25)))
(assert (and (== A[0,0] X[0,0]) (== A[0,1] X[0,1])))
(assert (>= Y[0,0] B[0,0]))
"""


def test_vnnlib_files_about_several_networks(tmp_path: Path) -> None:
    pytest.importorskip("vnnlib", reason="pip install 'surebound[vnnlib2]'")
    nets.halves(tmp_path / "net.onnx")
    nets.halves(tmp_path / "twice.onnx", gain=2.0)
    (tmp_path / "two.vnnlib").write_text(TWO)
    text = (
        '[models.net]\npath = "net.onnx"\n[models.twice]\npath = "twice.onnx"\n[[requirement]]\nid = "v"\n'
        'kind = "vnnlib"\nmodel = "net"\nfiles = "two.vnnlib"\nnetworks = '
    )
    assert only(decide(text + '["f=net", "g=twice"]', tmp_path)).outcome is Outcome.HOLDS
    assert only(decide(text + '["f=net", "g=twice"]', tmp_path)).reused == 1
    assert only(decide(text + '["f=twice", "g=net"]', tmp_path)).outcome is Outcome.VIOLATED
    missing = only(decide(text + '["f=net"]', tmp_path))
    assert missing.outcome is Outcome.ERROR and "declares the networks f, g" in missing.questions[0].message


BOXED = (
    '[models.net]\npath = "net.onnx"\n[[requirement]]\nid = "r"\nmodel = "net"\nlower = -1\nupper = [1, 1]\n'
)


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ("low = 0\nhigh = 2.001", Outcome.HOLDS),
        ("high = 1.9", Outcome.VIOLATED),
        ("low = 0.1\noutputs = 0", Outcome.VIOLATED),
        ("outputs = 1\nlow = 0", Outcome.ERROR),
    ],
)
def test_output_range(tmp_path: Path, limits: str, outcome: Outcome) -> None:
    nets.bent(tmp_path / "net.onnx")
    finding = only(decide(f'{BOXED}kind = "output-range"\n{limits}', tmp_path))
    assert finding.outcome is outcome, finding.message
    assert len(finding.counterexamples) == (outcome is Outcome.VIOLATED)


@pytest.mark.parametrize(
    ("keys", "outcome"),
    [
        ("input = 0\nslack = 0.05", Outcome.HOLDS),
        ('input = 0\ndirection = "decreasing"\nslack = 0.05', Outcome.VIOLATED),
        ("input = 1\nslack = 0.05", Outcome.VIOLATED),  # |x1| falls, then rises
        ("input = 2", Outcome.ERROR),
    ],
)
def test_monotonicity(tmp_path: Path, keys: str, outcome: Outcome) -> None:
    """``y = 2 max(x0, 0) + x0 + |x1|`` rises with x0."""
    w = np.array([[1, 1, -1, 0, 0], [0, 0, 0, 1, -1]])
    nets.dense(tmp_path / "net.onnx", [(w, np.zeros(5)), (np.array([[2], [1], [-1], [1], [1]]), [0])])
    finding = only(decide(f'{BOXED}kind = "monotonicity"\n{keys}', tmp_path))
    assert finding.outcome is outcome, finding.message
    if outcome is Outcome.VIOLATED:
        x = np.array(finding.counterexamples[0].inputs)
        i = int("input = 1" in keys)
        moved = x[:2] + x[2] * np.eye(2)[i]
        assert x[2] >= 0 and (moved <= 1 + 1e-6).all()

        def value(p: np.ndarray) -> float:
            return float(2 * max(p[0], 0) + p[0] + abs(p[1]))

        change = value(moved) - value(x[:2])
        assert (change if i == 0 else -change) > 0.05 - 1e-6


def test_equivalence(tmp_path: Path) -> None:
    nets.bent(tmp_path / "net.onnx")
    w = np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
    nets.dense(tmp_path / "near.onnx", [(w, np.zeros(4)), (1.01 * np.ones((4, 1)), [0])])
    nets.halves(tmp_path / "two.onnx")
    nets.dense(tmp_path / "old.onnx", [(w, np.zeros(4)), (np.ones((4, 1)), [0])], opset=13)
    tables = "".join(f'[models.{n}]\npath = "{n}.onnx"\n' for n in ("near", "two", "old"))

    def found(other: str, epsilon: str):
        text = f'{tables}{BOXED}kind = "equivalence"\nother = "{other}"\nepsilon = {epsilon}\n'
        return only(decide(text, tmp_path))

    assert found("near", "0.03").outcome is Outcome.HOLDS
    bad = found("near", "0.01")
    assert bad.outcome is Outcome.VIOLATED and len(bad.counterexamples[0].outputs) == 2
    a, b = bad.counterexamples[0].outputs
    assert abs(a - b) > 0.01
    assert found("net", "0.0001").outcome is Outcome.HOLDS
    assert "have different outputs" in found("two", "1").message
    assert "export both with the same opset" in found("old", "1").message


def test_equivalence_around_samples(tmp_path: Path) -> None:
    nets.halves(tmp_path / "net.onnx")
    nets.halves(tmp_path / "other.onnx", gain=1.5)
    nets.samples(tmp_path / "d.npz", [[0.1, 0.0], [0.0, 0.1]], [0, 1])
    text = (
        f'{TABLES}[models.other]\npath = "other.onnx"\n[[requirement]]\nid = "e"\nkind = "equivalence"\n'
        'model = "net"\nother = "other"\ndata = "d"\nradius = 0.05\nepsilon = '
    )
    finding = only(decide(text + "0.0751", tmp_path))
    assert finding.outcome is Outcome.HOLDS and len(finding.questions) == 2
    assert only(decide(text + "0.0749", tmp_path)).outcome is Outcome.VIOLATED


LIPSCHITZ = '[models.net]\npath = "net.onnx"\n[[requirement]]\nid = "l"\nkind = "lipschitz"\nmodel = "net"\n'


@pytest.mark.parametrize(("norm", "proved"), [("2", "3.01"), ("inf", "3.01"), ("1", "4.25")])
def test_lipschitz(tmp_path: Path, norm: str, proved: str) -> None:
    """``3 x``; from 1 to 1 the bound is loose by the square root of 2, as documented of the method."""
    nets.halves(tmp_path / "net.onnx", gain=3.0)
    text = f'{LIPSCHITZ}norm = "{norm}"\n'
    finding = only(decide(f"{text}at_most = {proved}", tmp_path))
    assert finding.outcome is Outcome.HOLDS, finding.message
    bad = only(decide(text + "at_most = 2.99", tmp_path))
    assert bad.outcome is Outcome.VIOLATED
    x, y = (np.array(p) for p in (bad.counterexamples[0].original, bad.counterexamples[0].inputs))
    kind = {"1": 1, "2": 2, "inf": np.inf}[norm]
    assert np.linalg.norm(3 * (x - y), kind) / np.linalg.norm(x - y, kind) > 2.99


def test_a_bound_that_is_too_loose_is_inconclusive(tmp_path: Path) -> None:
    """The true constant from 1 to 1 is 3, 4.24 is proved: 3.5 is neither proved nor refuted."""
    nets.halves(tmp_path / "net.onnx", gain=3.0)
    report = decide(f'{LIPSCHITZ}norm = "1"\nat_most = 3.5', tmp_path)
    assert (report.outcome, report.exit_code) == (Outcome.INCONCLUSIVE, GateExit.INCONCLUSIVE)


REGRESSION = '[[requirement]]\nid = "n"\nkind = "no-regression"\nof = "r"\nby = 0.2\n'


def test_no_regression(classifier: Path) -> None:
    text = accuracy("0.3", "0") + REGRESSION
    missing = decide(text, classifier)
    assert missing.exit_code is GateExit.ERROR
    assert "there is no baseline; make one with" in missing.findings[1].message
    made = decide(text, classifier, update_baseline=True)
    assert made.outcome is Outcome.HOLDS and any("was written" in n for n in made.notes)
    assert decide(text, classifier).outcome is Outcome.HOLDS
    nets.halves(classifier / "net.onnx", gain=-1.0)  # everything is wrong now, but one
    worse = decide(text, classifier)
    assert worse.findings[1].outcome is Outcome.VIOLATED
    assert "0.5 in the baseline" in worse.findings[1].message


def test_a_baseline_made_with_other_settings_is_refused_with_the_difference(classifier: Path) -> None:
    text = accuracy("0.3", "0") + REGRESSION
    decide(text, classifier, update_baseline=True)
    other = decide(text.replace("radius = 0.3", "radius = 0.25"), classifier)
    assert other.exit_code is GateExit.ERROR
    assert "radius is 1/4, in the baseline 3/10" in other.findings[1].message
    nets.samples(classifier / "d.npz", [[0.5, 0.0]] * 4, [0] * 4)
    assert "samples_sha256 is" in decide(text, classifier).findings[1].message


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "surebound-baseline", "format_version": 1}'])
def test_damaged_baselines(classifier: Path, content: str) -> None:
    (classifier / "surebound.lock").write_text(content)
    finding = decide(accuracy("0.3", "0") + REGRESSION, classifier).findings[1]
    assert finding.outcome is Outcome.ERROR and "make it again" in finding.message


def test_a_baseline_is_not_written_from_part_of_a_run(classifier: Path) -> None:
    text = accuracy("0.3", "0") + REGRESSION
    with pytest.raises(Exception, match="does not go with --only"):
        decide(text, classifier, update_baseline=True, only=("r",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: nets.halves(f / "net.onnx").write_bytes(b"\x00"), "not an ONNX file"),
        (
            lambda f: nets.samples(f / "d.npz", [[0.4, 0.0]], [7]),
            "label 7 of sample 0 is no output of the network",
        ),
        (
            lambda f: nets.samples(f / "d.npz", [[0.4, 0.0, 1.0]], [0]),
            "samples have shape (3,), the network takes (2,)",
        ),
        (lambda f: nets.samples(f / "d.npz", np.zeros((0, 2)), []), "holds no samples"),
        (lambda f: (f / "d.npz").write_bytes(b"PK"), "no archive of plain arrays"),
    ],
)
def test_what_cannot_be_looked_at_is_an_error_of_its_requirement(
    classifier: Path, change, words: str
) -> None:
    nets.bent(classifier / "fine.onnx")
    change(classifier)
    text = (
        accuracy("0.3", "0.5") + '[models.fine]\npath = "fine.onnx"\n'
        + BOXED.split("[[")[1].join(["[[", ""]).replace('"net"', '"fine"').replace('"r"', '"range"')
        + 'kind = "output-range"\nhigh = 2.5\n'
    )  # fmt: skip
    report = decide(text, classifier)
    assert [f.outcome for f in report.findings] == [Outcome.ERROR, Outcome.HOLDS]
    assert words in report.findings[0].message
    assert report.exit_code is GateExit.ERROR and report.alerts[0].rule.id == "SB003"


def test_nobody_asked(classifier: Path) -> None:
    with pytest.raises(Exception, match="there is no such requirement; known are r"):
        decide(accuracy("0.3", "0.5"), classifier, only=("x",))


def test_cancelled_runs_are_inconclusive(classifier: Path) -> None:
    config = nets.config(accuracy("0.3", "0.5"), classifier)
    report = run(config, cancel=lambda: True)
    assert report.outcome is Outcome.INCONCLUSIVE
    assert "cancelled" in only(report).questions[0].message


def test_float32_level(classifier: Path) -> None:
    finding = only(decide(accuracy("0.19", "0.75", 'semantics = "float32"'), classifier))
    assert finding.outcome is Outcome.HOLDS
    assert finding.settings["semantics"] == "float32"


def test_what_was_not_asked_does_not_hold() -> None:
    with pytest.raises(AssertionError, match="nothing was asked"):
        worst([])
