"""A proof, its re-check and a refutation of a network of three numbers, from file to file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from verifier.doctor.model import Finding, Level

# y = relu(x) - x, which is at most 1 on [-1, 1]
_PROPERTY = """
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1))
(assert (<= X_0 1))
(assert (>= Y_0 {limit}))
"""
_REPORT = "please report it, with the output of verify doctor --json"


def check_engine() -> Iterator[Finding]:
    """Whether this installation proves, re-checks and refutes."""
    from verifier.api import verify
    from verifier.check.main import check
    from verifier.verdict import Status

    with tempfile.TemporaryDirectory(prefix="surebound-doctor-") as name:
        folder = Path(name)
        model, proof = folder / "net.onnx", folder / "proof.sbcert"
        model.write_bytes(_network())
        safe, unsafe = folder / "safe.vnnlib", folder / "unsafe.vnnlib"
        safe.write_text(_PROPERTY.format(limit=1.5), encoding="utf-8")
        unsafe.write_text(_PROPERTY.format(limit=0.5), encoding="utf-8")
        proved = verify(model, safe, certificate=proof)
        if proved.status is not Status.UNSAT:
            yield Finding("a small proof", Level.PROBLEM, f"ends as {proved.status.value}", _REPORT)
            return
        checked = check(proof, {"": model}, safe)
        yield Finding(
            "a small proof",
            Level.OK,
            f"found in {proved.stats.seconds:.2f} s, re-checked in {checked.seconds:.2f} s",
        )
        broken = verify(model, unsafe)
        if broken.status is Status.SAT and broken.witness is not None:
            yield Finding("a small refutation", Level.OK, f"found and {broken.witness.kind}")
        else:
            yield Finding("a small refutation", Level.PROBLEM, f"ends as {broken.status.value}", _REPORT)


def _network() -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sub", ["r", "x"], ["y"])],
        "doctor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()
