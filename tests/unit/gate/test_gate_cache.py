"""The cache: what is kept is re-checked before it counts, and whatever is wrong with it costs time only."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gate_nets as nets
import numpy as np
import pytest
from gate_nets import decide, only
from onnx import TensorProto, helper, numpy_helper

from verifier.gate.cache import Cache
from verifier.gate.report import GateReport, Outcome

TEXT = """
[models.net]
path = "net.onnx"
[data.d]
path = "d.npz"
[[requirement]]
id = "r"
kind = "certified-accuracy"
model = "net"
data = "d"
radius = 0.3
at_least = 0.5
[[requirement]]
id = "l"
kind = "lipschitz"
model = "net"
at_most = 1.5
[[requirement]]
id = "o"
kind = "output-range"
model = "net"
lower = 0
upper = 1
high = 1.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nets.halves(tmp_path / "net.onnx")
    nets.samples(tmp_path / "d.npz", [[0.4, 0.0], [1.0, 0.0], [0.0, 2.0]], [0, 0, 1])
    return tmp_path


def proofs(folder: Path, suffix: str = ".sbcert") -> list[Path]:
    return sorted((folder / ".surebound/cache/proofs").glob(f"*/*{suffix}"))


def sources(report: GateReport) -> set[str]:
    return {q.source for f in report.findings for q in f.questions}


def outcomes(report: GateReport) -> list[tuple[str, Outcome]]:
    return [(f.id, f.outcome) for f in report.findings]


def test_a_second_run_re_checks_and_proves_nothing(folder: Path) -> None:
    first, second = decide(TEXT, folder), decide(TEXT, folder)
    assert sources(first) == {"proved"} and sources(second) == {"cache"}
    assert outcomes(first) == outcomes(second)
    assert (second.reused, second.proved, second.rejected) == (5, 0, 0)
    assert len(proofs(folder)) == 4 and len(proofs(folder, ".json")) == 1
    again = only(decide(TEXT, folder, only=("r",)))
    assert [c.inputs for c in again.counterexamples] == [c.inputs for c in first.findings[0].counterexamples]


def edited(path: Path, change) -> None:
    """Rewrites a certificate's header or one of its arrays."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(parts["certificate.json"])
    arrays = {n: np.load(io.BytesIO(d), allow_pickle=False) for n, d in parts.items() if n.endswith(".npy")}
    change(header, arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("certificate.json", json.dumps(header))
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(name, buffer.getvalue())


def witness_outside(header, arrays) -> None:
    if header["verdict"] == "sat":
        header["witness"]["x"] = ["5", "-5"]
    else:
        arrays["arrays/node_dim.npy"] = np.zeros_like(arrays["arrays/node_dim.npy"])


def other_verdict(header, arrays) -> None:
    header["verdict"] = {"sat": "unsat", "unsat": "sat"}[header["verdict"]]


def other_level(header, arrays) -> None:
    header["semantics"] = "float32"


def other_model(header, arrays) -> None:
    header["models"][0]["sha256"] = "0" * 64


@pytest.mark.parametrize("change", [witness_outside, other_verdict, other_level, other_model])
def test_tampered_certificates_are_caught_told_and_proved_afresh(folder: Path, change) -> None:
    first = decide(TEXT, folder)
    for path in proofs(folder):
        edited(path, change)
    report = decide(TEXT, folder)
    assert outcomes(report) == outcomes(first)
    assert (report.rejected, report.reused) == (4, 1)
    loud = [a for a in report.alerts if a.rule.id == "SB004"]
    assert len(loud) == 4 and all("does not prove what it is kept for" in a.message for a in loud)
    assert decide(TEXT, folder).rejected == 0  # told once; the new proofs are in their places
    assert len(proofs(folder, ".rejected")) == 4


def test_a_proof_about_another_network_is_not_believed(folder: Path) -> None:
    """Even where it lies under the right name: the network is no longer robust."""
    decide(TEXT, folder)
    before = {p.name: p.read_bytes() for p in proofs(folder)}
    nets.halves(folder / "net.onnx", gain=-1.0)
    changed = decide(TEXT, folder)
    assert changed.findings[0].outcome is Outcome.VIOLATED
    for path, old in zip([p for p in proofs(folder) if p.name not in before], before.values(), strict=False):
        path.write_bytes(old)
    report = decide(TEXT, folder)
    assert report.rejected and report.findings[0].outcome is Outcome.VIOLATED


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + b"\x00" * 100, b"{}"])
def test_garbage_is_proved_afresh(folder: Path, content: bytes) -> None:
    first = decide(TEXT, folder)
    for path in (*proofs(folder), *proofs(folder, ".json")):
        path.write_bytes(content)
    report = decide(TEXT, folder)
    assert outcomes(report) == outcomes(first)
    assert (report.rejected, report.reused) == (5, 0)


def test_a_lipschitz_bound_that_claims_too_little_is_caught(folder: Path) -> None:
    decide(TEXT, folder)
    (path,) = proofs(folder, ".json")
    document = json.loads(path.read_text())
    document["upper"] = 0.5
    path.write_text(json.dumps(document))
    report = decide(TEXT.replace("at_most = 1.5", "at_most = 0.6"), folder)
    assert report.rejected == 1 and report.findings[1].outcome is Outcome.VIOLATED


def test_without_a_cache(folder: Path) -> None:
    report = decide(TEXT, folder, no_cache=True)
    assert report.proved == 5 and not (folder / ".surebound").exists()
    empty = TEXT + '[cache]\npath = ""\n'
    assert decide(empty, folder).proved == 5 and not (folder / ".surebound").exists()


def test_a_cache_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("")
    report = decide(TEXT, folder, cache=folder / "file" / "cache")
    assert report.proved == 5
    assert any("cannot be written" in n and "working without a cache" in n for n in report.notes)


# everything is loaded before rights are dropped (root could write anywhere), and paths are relative, so that
# the other user need not reach the folders above
SCRIPT = """
import os
from verifier.gate.config import read_config
from verifier.gate.run import GateOptions, run
config = read_config("surebound.toml")
run(config, GateOptions(no_cache=True))
run(config, GateOptions(cache=config.folder / "warm"))
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
report = run(config)
print(report.reused, report.proved, *report.notes, sep="|")
"""


def test_a_read_only_cache_is_used_and_said(folder: Path) -> None:
    (folder / "surebound.toml").write_text("version = 1\n" + TEXT)
    decide(TEXT, folder)
    removed, *kept = proofs(folder)
    removed.unlink()
    cache = folder / ".surebound/cache"
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in (folder, folder / ".surebound", *folder.glob("*.*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=folder
    )
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    reused, proved, *notes = done.stdout.strip().split("|")
    assert (reused, proved) == ("4", "1")
    assert any("cannot be written" in n and "new proofs are not kept" in n for n in notes), notes
    assert len(kept) == len(proofs(folder))


def test_earlier_certificates_are_found_by_requirement_and_question(folder: Path) -> None:
    decide(TEXT, folder)
    cache = Cache.open(folder / ".surebound/cache")
    name = "sample 1, radius 0.3"
    (first,) = cache.earlier("r", name)
    nets.halves(folder / "net.onnx", gain=1.001)
    decide(TEXT, folder)
    second, older = cache.earlier("r", name)
    assert older == first and second != first and second.is_file()
    assert cache.earlier("r", "sample 7") == [] and cache.earlier("x", name) == []
    (history,) = [p for p in (folder / ".surebound/cache/history/r").iterdir() if name in p.read_text()]
    history.write_text('[{"key": "../../../../net", "suffix": ".onnx"}, 3]')
    assert cache.earlier("r", name) == []
    shutil.rmtree(folder / ".surebound/cache/history")
    assert cache.earlier("r", name) == []


def test_combined_networks_are_kept_beside_their_proofs(folder: Path) -> None:
    from verifier.check.main import check

    nets.bent(folder / "bent.onnx")
    text = (
        '[models.m]\npath = "bent.onnx"\n[[requirement]]\nid = "e"\nkind = "equivalence"\nmodel = "m"\n'
        'other = "m"\n'
        "lower = -1\nupper = 1\nepsilon = 0.01\n"
    )
    finding = only(decide(text, folder))
    certificate = Path(finding.questions[0].certificate)
    assert check(certificate, {"": certificate.with_suffix(".onnx")}, None).verdict == "unsat"
    assert only(decide(text, folder)).questions[0].source == "cache"


def quantised(path: Path) -> Path:
    """``x -> x + x1`` in 8 bits, by an operator that the checker does not read."""
    f8, u8 = np.float32, np.uint8
    stored = {
        "s": f8(1 / 64), "z": u8(128), "b": np.array([[1], [1]], u8), "bs": f8(1), "bz": u8(0),
        "ys": f8(1 / 32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "b", "bs", "bz", "ys", "z"], ["m"]),
        helper.make_node("DequantizeLinear", ["m", "ys", "z"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 2), ("y", 1))]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_network_that_the_checker_does_not_read_is_proved_each_time(tmp_path: Path) -> None:
    quantised(tmp_path / "q.onnx")
    text = (
        '[models.q]\npath = "q.onnx"\n[[requirement]]\nid = "o"\nkind = "output-range"\nmodel = "q"\n'
        "lower = -0.5\nupper = 0.5\nhigh = 1.1\n"
    )
    for _ in range(2):
        report = decide(text, tmp_path)
        assert only(report).outcome is Outcome.HOLDS, only(report).message
        assert (report.reused, report.proved, report.rejected) == (0, 1, 0)
    assert any("the checker does not read this network" in note for note in report.notes)


def test_the_folder_is_kept_below_its_size(folder: Path) -> None:
    decide(TEXT, folder)
    used, *idle = proofs(folder)
    for path in proofs(folder):
        os.utime(path, (1e9, 1e9))
    os.utime(used, (2e9, 2e9))
    cache = Cache.open(folder / ".surebound/cache")
    cache.prune(used.stat().st_size + 1)
    assert proofs(folder) == [used] and idle
    report = decide(TEXT, folder)
    assert (report.reused, report.proved, report.rejected) == (1, 4, 0)
    assert used.stat().st_mtime != 2e9  # it was used, so it is the newest again
