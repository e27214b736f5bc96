"""``verify robustness``: what is counted, what is proved, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdp"))

from lipschitz_nets import Net, random_net

from bounds.evaluate import evaluate
from bounds.io.onnx import load
from verifier.cli import robustness as command
from verifier.cli.main import cli
from verifier.robustness.data import Reading, Samples, chosen, load_samples
from verifier.robustness.measure import METHODS, RobustnessOptions, read_radii, robustness
from verifier.robustness.result import By, Table
from verifier.verdict import Semantics

ORDER = {"1": 1, "2": 2, "inf": np.inf}


def test_methods_of_the_command_are_those_of_the_library() -> None:
    assert command.METHODS == METHODS


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """Two inputs, two scores: the scores are the inputs."""
    path = tmp_path / "linear.onnx"
    path.write_bytes(Net(2).dense(np.eye(2)).bytes())
    return path


def samples(x: Any, y: Any) -> Samples:
    return Samples(np.asarray(x, dtype=np.float64), np.asarray(y), np.arange(len(y)))


# -------------------------------------------------------------------- what is proved
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_a_linear_classifier_is_decided_exactly(method: str, norm: str, linear: Path) -> None:
    """(3, 1) changes class at sqrt 2, 1 or 2; (0, 1) is wrong, (1, 1) is a tie, which loses."""
    distance = {"2": np.sqrt(2), "inf": 1.0, "1": 2.0}[norm]
    report = robustness(
        linear,
        samples([[3, 1], [0, 1], [1, 1]], [0, 0, 0]),
        [distance * 0.99, distance * 1.01],
        options=RobustnessOptions(norm=norm, method=method, timeout=20),
    )
    table = report.table
    assert table.correct.tolist() == [True, False, False]
    assert table.wrong.tolist() == [False, True, True]
    assert table.robust.tolist() == [[True, False], [False, False], [False, False]]
    assert table.broken.tolist() == [[False, True], [True, True], [True, True]]
    assert report.clean == pytest.approx(1 / 3) and report.certified(0) == pytest.approx(1 / 3)
    if method == "lipschitz":
        assert report.everywhere[0] == pytest.approx(distance, rel=1e-6) and report.everywhere[0] <= distance


@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_nothing_inside_a_certified_ball_changes_the_class(
    norm: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(random_net(rng, "Relu", (4, 10, 10, 3)).bytes())
    graph = load(path).graph
    x = rng.standard_normal((12, 4)).astype(np.float32).astype(np.float64)
    y = evaluate(graph, x).argmax(1)
    radii = [0.02, 0.1, 0.3, 1.0]
    reports = [
        robustness(
            path,
            samples(x, y),
            radii,
            options=RobustnessOptions(norm=norm, method=m, timeout=6, sample_timeout=0.5),
        )
        for m in METHODS
    ]
    for report in reports:
        assert not (report.table.robust & report.table.broken).any()
        for i, k in zip(*np.nonzero(report.table.robust), strict=True):
            step = rng.standard_normal((300, 4))
            step *= radii[k] * 0.9999 / np.linalg.norm(step, ORDER[norm], axis=1, keepdims=True)
            assert np.all(evaluate(graph, x[i] + step).argmax(1) == y[i])
    for one in reports:  # no method refutes what another proves
        for other in reports:
            assert not (one.table.robust & other.table.broken).any()
    assert reports[0].table.robust.sum() >= reports[1].table.robust.sum() - 1


@pytest.mark.parametrize(("norm", "method", "local", "phases"), [
    ("inf", "auto", None, ["clean", "attack", "bounds", "search"]),
    ("inf", "auto", True, ["clean", "lipschitz", "attack", "local", "bounds", "search"]),
    ("inf", "lipschitz", None, ["clean", "lipschitz", "attack", "local"]),
    ("2", "auto", False, ["clean", "lipschitz", "attack", "bounds", "search"]),
])  # fmt: skip
def test_boxes_are_bounded_without_constants_first(
    norm: str, method: str, local: bool | None, phases: list[str], linear: Path
) -> None:
    """They cost more than all bounds of a data set: minutes for a network with convolutions."""
    options = RobustnessOptions(norm=norm, method=method, local=local, timeout=20)
    report = robustness(linear, samples([[3, 1]], [0]), [0.5], options=options)
    assert list(report.phases) == phases and report.table.robust.all()


def test_float32_semantics_and_clip(linear: Path) -> None:
    report = robustness(
        linear,
        samples([[1, 0.5]], [0]),
        ["0.2", "0.3", "0.6"],
        options=RobustnessOptions(norm="inf", semantics=Semantics.FLOAT32, clip=(Fraction(0), Fraction(1))),
    )
    # upwards the first score cannot go, so the second must cover the distance alone from above
    assert report.table.robust[0].tolist() == [True, False, False]
    assert report.table.broken[0].tolist() == [False, True, True]
    assert report.semantics == "float32"


def test_certificates_of_searched_samples_check(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(random_net(rng, "Relu", (3, 8, 8, 2)).bytes())
    x = rng.standard_normal((6, 3)).astype(np.float32).astype(np.float64)
    y = evaluate(load(path).graph, x).argmax(1)
    folder = tmp_path / "certificates"
    folder.mkdir()
    options = RobustnessOptions(
        norm="inf", method="bounds", certificates=folder, sample_timeout=1, attack=False, timeout=5
    )
    report = robustness(
        path, samples(x, y), [0.5], options=replace(options, method="lipschitz", norm="2", sample_timeout=9)
    )
    assert any(file.endswith("-radius.json") for file in report.certificates)
    _all_check(report.certificates, path)
    report = robustness(path, samples(x, y), [0.05, 0.3, 0.6], options=options)
    assert report.certificates
    _all_check(report.certificates, path)


def _all_check(files: tuple[str, ...], model: Path) -> None:
    for file in files:
        result = CliRunner().invoke(cli, ["check", file, "--model", str(model)])
        assert result.exit_code == 0, result.output


def test_a_table_refuses_contradictions() -> None:
    table = Table.empty(1, 3)
    table.prove(0, 1, By.BOUNDS)
    assert table.robust[0].tolist() == [True, True, False]
    with pytest.raises(AssertionError):
        table.refute(0, 1, By.ATTACK)
    table.refute(0, 2, By.ATTACK)
    with pytest.raises(AssertionError):
        table.prove(0, 2, By.BOUNDS)


def test_the_time_limit_leaves_samples_open(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(random_net(rng, "Relu", (3, 8, 8, 2)).bytes())
    x = rng.standard_normal((4, 3)).astype(np.float32).astype(np.float64)
    y = evaluate(load(path).graph, x).argmax(1)
    options = RobustnessOptions(timeout=1e-6)
    report = robustness(path, samples(x, y), [0.4], options=options)
    assert report.table.correct.all() and not report.table.broken.any()
    row = report.as_dict()["radii"][0]
    assert row["open_count"] + row["certified_count"] == 4


# -------------------------------------------------------------------- samples
def test_samples_are_stratified_and_repeat(rng: np.random.Generator) -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 45)
    first = chosen(labels, Reading(count=12, seed=3))
    assert np.bincount(labels[first]).tolist() == [4, 4, 4]
    assert np.array_equal(first, chosen(labels, Reading(count=12, seed=3)))
    assert not np.array_equal(first, chosen(labels, Reading(count=12, seed=4)))
    plain = chosen(labels, Reading(count=40, seed=3, stratified=False))
    assert np.bincount(labels[plain])[1] < 6
    assert np.array_equal(chosen(labels, Reading()), np.arange(100))
    # labels that run out are filled up by the others
    assert np.bincount(labels[chosen(labels, Reading(count=30))]).tolist() == [13, 5, 12]


def test_pictures_are_brought_into_the_network_s_form(tmp_path: Path, rng: np.random.Generator) -> None:
    pictures = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=pictures, labels=np.arange(5) % 2)
    found = load_samples(tmp_path / "d.npz", (1, 3, 4, 4), 2)
    wanted = (pictures.transpose(0, 3, 1, 2).reshape(5, -1) / 255).astype(np.float32)
    assert np.array_equal(found.x, wanted.astype(np.float64))
    assert len(found.notes) == 2
    flat = load_samples(tmp_path / "d.npz", (1, 48), 2, Reading(scale=1))
    assert np.array_equal(flat.x, pictures.reshape(5, -1).astype(np.float64))


# -------------------------------------------------------------------- bad input
def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["robustness", *(str(a) for a in arguments)])


GOOD = {"x": np.ones((4, 2), dtype=np.float32) * [[2, 1]], "y": np.zeros(4, dtype=np.int64)}
BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({"y": GOOD["y"]}, "name one with --inputs"),
    "no labels": ({"x": GOOD["x"]}, "name one with --labels"),
    "shape": (GOOD | {"x": np.ones((4, 3))}, r"samples have shape \(3,\), the network takes \(2,\)"),
    "count": (GOOD | {"y": np.zeros(3, dtype=int)}, "each of the 4 samples"),
    "label range": (GOOD | {"y": np.array([0, 1, 2, 0])}, "label 2 of sample 2"),
    "negative label": (GOOD | {"y": np.array([0, -1, 0, 0])}, "label -1 of sample 1"),
    "broken label": (GOOD | {"y": np.array([0, 0.5, 0, 0])}, "label 0.5 of sample 1"),
    "text": (GOOD | {"x": np.array([["a", "b"]] * 4)}, "not numbers"),
    "NaN": (GOOD | {"x": np.full((4, 2), np.nan)}, "not finite"),
    "empty": ({"x": np.ones((0, 2)), "y": np.ones(0, dtype=int)}, "no samples"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit_are_told_apart(case: str, linear: Path, tmp_path: Path) -> None:
    arrays, message = BAD_DATA[case]
    result = run(linear, "--data", save(tmp_path / "d.npz", **arrays), "--radii", "0.1")
    assert type(result.exception).__name__ == "BadInput", result.exception
    assert str(tmp_path / "d.npz") in str(result.exception)
    assert re.search(message, str(result.exception)), result.exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--radii", "a"), "no number"),
        (("--radii", "0"), "not above 0"),
        (("--radii", "-1"), "not above 0"),
        (("--radii", "1/0"), "no number"),
        (("--radii", ","), "no radius"),
        (("--radii", "1e99"), "too large"),
        (("--radii", "1", "--clip", "0"), "two numbers"),
        (("--radii", "1", "--clip", "1,0"), "empty"),
        (("--radii", "1", "--clip", "0,1"), "outside --clip"),
        (("--radii", "1", "--scale", "0"), "above 0"),
        (("--radii", "1", "--inputs", "z"), "no array 'z'"),
        (("--radii", "1", "--method", "lipschitz", "--semantics", "float32"), "over the reals"),
    ],
)
def test_options_that_cannot_be_used(
    arguments: tuple[str, ...], message: str, linear: Path, tmp_path: Path
) -> None:
    result = run(linear, "--data", save(tmp_path / "d.npz", **GOOD), *arguments)
    assert type(result.exception).__name__ == "BadInput", result.exception
    assert message in str(result.exception)


def test_files_that_are_no_archives(linear: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"PK nonsense")
    assert "no archive" in str(run(linear, "--data", path, "--radii", "1").exception)
    np.save(tmp_path / "d.npy", GOOD["x"])
    assert "single array" in str(run(linear, "--data", tmp_path / "d.npy", "--radii", "1").exception)
    one = tmp_path / "one.onnx"
    one.write_bytes(Net(2).dense(np.ones((1, 2))).bytes())
    result = run(one, "--data", save(tmp_path / "e.npz", **GOOD), "--radii", "1")
    assert "at least two" in str(result.exception)


def test_exact_radii() -> None:
    found = read_radii(["2/255", "0.1", 0.5, "0.10"])
    assert [r.exact for r in found] == [Fraction(2, 255), Fraction(1, 10), Fraction(1, 2)]
    assert all(Fraction(r.above) >= r.exact for r in found)


# -------------------------------------------------------------------- the command
def test_the_command_prints_a_table_and_writes_json(linear: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    data = save(tmp_path / "d.npz", **GOOD)
    result = run(linear, "--data", data, "--radii", "0.9,0.5", "--samples", "3", "--json", out)
    assert result.exit_code == 0, result.output
    facts = json.loads(out.read_text(encoding="utf-8"))
    assert facts["samples"] == 3 and facts["clean"] == 1.0
    assert [r["radius"] for r in facts["radii"]] == ["0.5", "0.9"]
    assert [r["certified"] for r in facts["radii"]] == [1.0, 0.0]
    assert [r["upper"] for r in facts["radii"]] == [1.0, 0.0]
    assert len(facts["results"]) == 3 and facts["results"][0]["radii"] == ["certified", "broken"]
    assert "certified" in result.output
