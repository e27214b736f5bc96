"""Proofs about the collection's aircraft networks, re-checked by the independent checker."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier import Options, verify
from verifier.check.main import check
from verifier.verdict import Status

pytestmark = pytest.mark.shared

# (network, property), all of them unsat; from a fraction of a second to the hardest of the family
PROVED = [
    *(("1_1", 1), ("2_3", 1), ("4_5", 1), ("5_8", 1), ("3_3", 2), ("4_2", 2)),
    *(("1_1", 3), ("2_2", 3), ("3_5", 3), ("5_9", 3)),
    *(("1_1", 4), ("2_7", 4), ("3_2", 4), ("4_9", 4), ("5_1", 4)),
    *(("1_1", 5), ("1_1", 6), ("3_3", 9), ("4_5", 10), ("5_9", 1)),
]


def present(path: Path) -> Path:
    """The file, or the same with .gz; a visible skip where this collection does not hold it."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    pytest.skip(f"{path} is not in this collection")


@pytest.mark.parametrize(("network", "number"), PROVED)
def test_the_proof_is_accepted(shared: Path, tmp_path: Path, network: str, number: int) -> None:
    """The times are printed for people (``pytest -rP``): machines differ, so they decide nothing here."""
    folder = shared / "vnncomp" / "acasxu"
    model = present(folder / "onnx" / f"ACASXU_run2a_{network}_batch_2000.onnx")
    prop = present(folder / "vnnlib" / f"prop_{number}.vnnlib")
    proof = tmp_path / "c.sbcert"
    report = verify(model, prop, options=Options(timeout=120), certificate=proof)
    assert report.status is Status.UNSAT
    result = check(proof, {"": model}, prop)
    assert (result.verdict, result.semantics) == ("unsat", "real")
    search = report.stats.seconds - report.stats.phases["load"] - report.stats.phases["certificate"]
    ratio = result.seconds / max(search, 1e-9)
    print(  # noqa: T201  (captured; for people)
        f"{network} prop_{number}: {report.stats.domains} domains, search {search:.2f} s, check "
        f"{result.seconds:.2f} s, ratio {ratio:.2f}, {proof.stat().st_size} bytes"
    )
