"""Many questions at once: what is proved is what single queries prove, and every certificate is accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bounds.io.onnx import load
from verifier.api import verify
from verifier.check.main import check
from verifier.query import Options
from verifier.spec.load import loads
from verifier.spec.model import Property
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness
from verifier.together import Question, verify_together
from verifier.verdict import Semantics, Status


def questions_about(path: Path, radius: float, count: int = 12) -> list[Property]:
    graph = load(path).graph
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (count, graph.input_size)).astype(np.float32)
    return [
        local_robustness(around([float(v) for v in x], radius), label=i % 3, outputs=graph.output_size)
        for i, x in enumerate(points)
    ]


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_certificates_of_a_block(examples: Path, tmp_path: Path, name: str, semantics: Semantics) -> None:
    path = examples / "models" / f"{name}.onnx"
    graph = load(path).graph
    rng = np.random.default_rng(2)
    proved = 0
    questions: list[Question] = []
    for i in range(8):
        x = rng.uniform(0, 1, graph.input_size).astype(np.float32)
        # the class that the network gives, so that small balls can be proved
        label = int(_scores(path, x).argmax())
        prop = local_robustness(
            around([float(v) for v in x], 1e-3 if i % 4 else 0.5), label=label, outputs=graph.output_size
        )
        questions.append(Question(prop, tmp_path / f"{i}.sbcert" if i % 3 else None))
    reports = verify_together(load(path), questions, options=Options(semantics=semantics))
    for question, report in zip(questions, reports, strict=True):
        if report is None:
            continue
        proved += 1
        assert report.status is Status.UNSAT and report.semantics is semantics
        alone = verify(path, question.property, options=Options(semantics=semantics, timeout=30))
        assert alone.status is Status.UNSAT
        assert bool(report.certificate) == (question.certificate is not None)
        if question.certificate is not None:
            assert check(question.certificate, {"": path}, None).verdict == Status.UNSAT.value
    assert 4 <= proved < 8  # and the large balls are left open


def _scores(path: Path, x: np.ndarray) -> np.ndarray:
    from bounds.io.session import Session

    return np.asarray(Session(load(path)).run(x[None].astype(np.float64)[0])[0]).reshape(-1)


def test_what_is_violated_or_does_not_fit_is_left(examples: Path) -> None:
    path = examples / "models" / "digits_mlp.onnx"
    wide = questions_about(path, 10.0, 3)
    assert verify_together(load(path), [Question(p) for p in wide], options=Options()) == [None] * 3


def test_boxes_of_one_block_do_not_mix(examples: Path) -> None:
    """A box that is proved beside one that is not gets its own verdict, in either order."""
    path = examples / "models" / "pendulum.onnx"
    graph = load(path).graph
    names = [f"X_{i}" for i in range(graph.input_size)]
    outputs = "".join(f"(declare-const Y_{i} Real)" for i in range(graph.output_size))

    def prop(radius: float) -> Property:
        box = "".join(
            f"(declare-const {n} Real)(assert (<= {n} {radius}))(assert (>= {n} {-radius}))" for n in names
        )
        return loads(f"{outputs}{box}(assert (>= Y_0 {BOUND}))")

    small, large = prop(0.01), prop(100.0)
    single = [verify(path, p, options=Options(timeout=20)).status for p in (small, large)]
    assert single == [Status.UNSAT, Status.SAT]
    for pair in ((small, large), (large, small)):
        found = verify_together(load(path), [Question(p) for p in pair], options=Options())
        assert [r is not None for r in found] == [p is small for p in pair]


BOUND = 1.0
