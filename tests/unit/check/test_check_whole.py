"""Inputs searched as whole numbers: the checker finds out for itself which may be."""

from __future__ import annotations

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_nets as nets
import numpy as np
import onnx
import pytest

from bounds.errors import CertificateRejected
from verifier import Options, verify
from verifier.check.importer import combine
from verifier.check.main import check
from verifier.check.reader import SINCE, VERSION, read
from verifier.check.whole import first_rounding, roundings, whole_numbers
from verifier.verdict import Status

N = nets.helper.make_node
PLACES = np.arange(6, dtype=np.float32)[None]


def marks(rounding: str = "Floor", *extra: Any) -> bytes:
    """``y0 = sum_k relu(1 - |r(x0) - k|)``: one mark is set, but a closed box may see two; ``y1 = x1``."""
    nodes = [
        N("Slice", ["x", "zero", "one", "one"], ["first"]),
        N("Slice", ["x", "one", "two", "one"], ["second"]),
        N(rounding, ["first"], ["r"]),
        N("Sub", ["r", "k"], ["off"]),
        N("Abs", ["off"], ["far"]),
        N("Sub", ["unit", "far"], ["near"]),
        N("Relu", ["near"], ["mark"]),
        N("ReduceSum", ["mark", "one"], ["sum"], keepdims=1),
        *extra,
        N("Concat", ["sum", "second"], ["y"], axis=1),
    ]
    weights = {"k": PLACES, "unit": np.ones((1, 1), np.float32)}
    weights |= {name: np.int64([i]) for i, name in enumerate(("zero", "one", "two"))}
    return nets.model(nodes, weights, [1, 2])


def written(folder: Path, rounding: str = "Floor", low: str = "0.25", high: str = "4.5") -> tuple[Path, ...]:
    """Model, property and proof: the marks add up to 1, whatever x0 is."""
    model, spec, proof = (folder / name for name in ("m.onnx", "p.vnnlib", "c.sbcert"))
    model.write_bytes(marks(rounding))
    lines = ["(declare-const X_0 Real)", "(declare-const X_1 Real)"]
    lines += ["(declare-const Y_0 Real)", "(declare-const Y_1 Real)"]
    lines += [f"(assert (>= X_0 {low}))", f"(assert (<= X_0 {high}))"]
    lines += [
        "(assert (>= X_1 0.25))",
        "(assert (<= X_1 1.5))",
        "(assert (or (and (<= Y_0 0.5)) (and (>= Y_0 1.5))))",
    ]
    spec.write_text("\n".join(lines))
    report = verify(model, spec, options=Options(max_domains=200), certificate=proof)
    assert report.status is Status.UNSAT
    return model, spec, proof


def changed(proof: Path, arrays: dict[str, Any], version: int = VERSION) -> Path:
    """The same certificate with other arrays (None: without)."""
    certificate = read(proof)
    with zipfile.ZipFile(proof) as archive:
        document = json.loads(archive.read("certificate.json")) | {"version": version}
    held = {
        name: arrays.get(name, value)
        for name, value in certificate.arrays.items()
        if SINCE.get(name, 0) <= version
    }
    return nets.write(proof.with_name("changed"), document, {k: v for k, v in held.items() if v is not None})


@pytest.mark.parametrize("rounding", ["Floor", "Ceil", "Round"])
def test_what_is_searched_in_whole_numbers_is_proved_again(tmp_path: Path, rounding: str) -> None:
    model, spec, proof = written(tmp_path, rounding)
    assert read(proof).arrays["whole_input"].tolist() == [0]
    assert check(proof, {"": model}, spec).verdict == "unsat"


@pytest.mark.parametrize(
    ("case", "element"),
    [([], []), ([0], [1]), ([0, 0], [0, 1]), ([0, 0], [0, 0]), ([1], [0]), ([0], [2]), ([0], [-1])],
)
def test_other_elements_are_refused(tmp_path: Path, case: list[int], element: list[int]) -> None:
    """None: then the boxes touch at the jumps. Element 1 is read as it is."""
    model, spec, proof = written(tmp_path)
    other = {"whole_case": np.int32(case).reshape(-1), "whole_input": np.int32(element).reshape(-1)}
    with pytest.raises(CertificateRejected):
        check(changed(proof, other), {"": model}, spec)


def test_older_versions_know_no_whole_numbers(tmp_path: Path) -> None:
    model, spec, proof = written(tmp_path)
    with pytest.raises(CertificateRejected, match="bound"):
        check(changed(proof, {"whole_case": None, "whole_input": None}, version=3), {"": model}, spec)


def test_a_larger_box_is_not_proved_by_a_smaller_one(tmp_path: Path) -> None:
    """At x0 = 6 no mark is set. The proof about 4.5 says nothing about 6."""
    model, _, proof = written(tmp_path)
    certificate = read(proof)
    case = nets.box_case(["0.25", "0.25"], ["6.5", "1.5"], [nets.row({0: 1}, "-0.5")])
    cases, mask = whole_numbers(
        lambda: combine({"": model.read_bytes()}, PROPERTY), certificate.arrays, [case]
    )
    assert mask.tolist() == [[True, False]] and (cases[0].lower[0], cases[0].upper[0]) == (0, 6)


PROPERTY = nets.make_property(2, 2, [nets.box_case([0, 0], [1, 1], [nets.row({0: 1})])])


@pytest.mark.parametrize(
    ("row", "ball"), [(nets.row({0: 1}, "-0.5", {0: 1}), None), (nets.row({0: 1}), Fraction(1))]
)
def test_rows_and_balls_about_the_number_itself(row: Any, ball: Any) -> None:
    from dataclasses import replace

    from verifier.spec.model import Ball

    case = nets.box_case([0, 0], [3, 1], [row])
    if ball:
        case = replace(case, ball=Ball((ball, ball), ball, 2))
    arrays = {"whole_case": np.int32([0]), "whole_input": np.int32([0])}
    with pytest.raises(CertificateRejected, match="whole numbers"):
        whole_numbers(lambda: combine({"": marks()}, PROPERTY), arrays, [case])


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ([], {0: "floor"}),
        ([N("Add", ["second", "first"], ["more"])], {0: "floor"}),  # nobody reads the sum
        ([N("Mul", ["sum", "first"], ["sum2"])], {}),
        ([N("Ceil", ["first"], ["up"]), N("Add", ["sum", "up"], ["sum2"])], {}),
        ([N("Floor", ["first"], ["again"]), N("Add", ["sum", "again"], ["sum2"])], {0: "floor"}),
        ([N("Add", ["sum", "first"], ["sum2"])], {}),
    ],
)
def test_every_reader_counts(extra: list[Any], found: dict[int, str]) -> None:
    data = marks("Floor", *extra)
    if extra and extra[-1].output[0] == "sum2":
        proto = onnx.load_from_string(data)
        proto.graph.node[-1].input[0] = "sum2"
        data = proto.SerializeToString()
    assert roundings(combine({"": data}, PROPERTY)) == found


def test_the_rounding_that_comes_first() -> None:
    from verifier.check.functions import X, call, const

    floor = call("floor", X)
    for f, name in (
        (X, ""),
        (floor, "floor"),
        (call("*", floor, floor), "floor"),
        (call("+", floor, X), ""),
        (call("+", floor, call("ceil", X)), ""),
        (call("floor", call("+", X, const(1.0))), ""),
        (call("step", X), ""),
        (const(2.0), ""),
    ):
        assert first_rounding(f) == name
