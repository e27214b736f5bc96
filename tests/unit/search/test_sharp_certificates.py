"""A search that writes a certificate bounds as one that does not: parameters of improved rows are kept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exact_leaf import layers_of, prop, saved

from bounds.errors import CertificateRejected
from verifier import Options, verify
from verifier.certificate import _write
from verifier.check import main
from verifier.check.reader import read
from verifier.verdict import Status

SIZES = (6, 10, 10, 10, 1)


@pytest.fixture
def query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """A property that the root's improved intermediate bounds just prove, and its certificate."""
    monkeypatch.setattr("bounds.methods.bounder.FORWARD_INPUTS", 0)
    model = saved(tmp_path / "m.onnx", layers_of(1, SIZES))
    far = prop(tmp_path / "far.vnnlib", SIZES[0], 100.0)
    bound = verify(model, far, options=Options(max_domains=1, attack=False)).lower_bound
    assert bound is not None
    spec, proof = prop(tmp_path / "p.vnnlib", SIZES[0], 100.0 + bound - 1e-3), tmp_path / "c.sbcert"
    report = verify(model, spec, options=Options(attack=False), certificate=proof)
    assert report.status is Status.UNSAT
    return model, spec, proof


def test_the_root_alone_proves_it_and_the_checker_agrees(query: tuple[Path, Path, Path]) -> None:
    model, spec, proof = query
    plain = verify(model, spec, options=Options(attack=False))
    with_proof = verify(model, spec, options=Options(attack=False), certificate=proof)
    assert plain.stats.domains == with_proof.stats.domains
    assert main.check(proof, {"": model}, spec).verdict == "unsat"
    arrays = read(proof).arrays
    assert len(arrays["row_box"]) > 0 and len(np.unique(arrays["row_slopes"])) > 2


@pytest.mark.parametrize("what", ["none", "zero", "swapped", "others"])
def test_without_their_parameters_the_proof_is_lost(query: tuple[Path, Path, Path], what: str) -> None:
    model, spec, proof = query
    held = read(proof)
    arrays: dict[str, Any] = dict(held.arrays)
    rows = {n: v for n, v in arrays.items() if n.startswith("row_")}
    if what == "none":
        arrays |= {n: v[:0] for n, v in rows.items()}
    elif what == "zero":
        arrays["row_slopes"] = rows["row_slopes"] * 0 + 64
    elif what == "swapped":
        arrays["row_upper"] = 1 - rows["row_upper"]
    else:
        arrays["row_slopes"] = rows["row_slopes"][::-1].copy()
    with zipfile.ZipFile(proof) as archive:
        document = json.loads(archive.read("certificate.json"))
    changed = proof.with_name("changed")
    _write(changed, document, arrays)
    with pytest.raises(CertificateRejected):
        main.check(changed, {"": model}, spec)
