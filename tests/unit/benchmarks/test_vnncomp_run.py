"""The whole benchmark with tiny commands in place of verifiers: every end is a row, nothing is lost."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import vnncomp
from _vnncomp_instances import Instance, read, sample, unpacked
from _vnncomp_tools import OURS, tool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness measures on Linux")

# the "network" is what the peers say; the property how long they think, by `sleep`
ANSWERS = {"u": "unsat", "s": "sat", "n": "unknown"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for family, names in (("one", "us"), ("two", "n")):
        (folder / family).mkdir(parents=True)
        lines: list[str] = []
        for name in names:
            (folder / family / f"{name}.onnx").write_text(ANSWERS[name] + "\n")
            lines.append(f"{name}.onnx,p.vnnlib,100")
        (folder / family / "p.vnnlib").write_text("; nothing\n")
        (folder / family / "instances.csv").write_text("\n".join(lines) + "\n")
    (folder / "expected.csv").write_text(
        "family,onnx,vnnlib,expected,abcrown_2025_seconds,abcrown_2025_verdict\n"
        "one,u.onnx,p.vnnlib,unsat,99,unsat\none,s.onnx,p.vnnlib,sat,,\n"
    )
    return folder


def rows(results: Path) -> list[dict[str, str]]:
    with (results / "vnncomp.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def bench(root: Path, *options: str) -> int:
    return vnncomp.main(["--root", str(root), "--only-peers", *options], root.parent)


def test_every_end_is_a_row(root: Path) -> None:
    status = bench(
        root, "--family", "one",
        "--peer", "good=cat {onnx}",
        "--peer", "file=cp {onnx} {out}",
        "--peer", "crash=sh -c 'kill -SEGV $$'",
        "--peer", "memory=sh -c 'echo MemoryError >&2; exit 1'",
        "--peer", "absent=/nothing/here {onnx}",
        "--peer", "liar=echo sat",
    )  # fmt: skip
    assert status == 0  # only our own wrong answers make the run fail
    found = {(r["tool"], r["onnx"]): r for r in rows(root.parent)}
    assert [found["good", f"{n}.onnx"]["verdict"] for n in "us"] == ["unsat", "sat"]
    assert [found["file", f"{n}.onnx"]["verdict"] for n in "us"] == ["unsat", "sat"]
    assert found["crash", "u.onnx"]["code"] == "-11"
    assert {found[t, "u.onnx"]["verdict"] for t in ("crash", "absent")} == {"error"}
    assert found["memory", "u.onnx"]["verdict"] == "out-of-memory"
    text = (root.parent / "vnncomp.md").read_text()
    assert "- one u.onnx p.vnnlib: expected unsat; sat: liar, unsat: file good" in text


def test_what_hangs_is_killed_even_after_its_answer(root: Path) -> None:
    peer = "slow=sh -c 'cat {onnx}; sleep 1000'"
    assert bench(root, "--timeout-cap", "0.2", "--grace", "0.2", "--peer", peer) == 0
    assert {(r["verdict"], r["note"], r["code"]) for r in rows(root.parent)} == {
        ("timed-out", "killed", "-9")
    }


def test_our_wrong_verdict_fails_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY", "/bin/true")
    assert vnncomp.main(["--root", str(root), "--family", "one"], root.parent) == 0
    assert {r["verdict"] for r in rows(root.parent)} == {"error"}
    liar = root.parent / "liar"
    liar.write_text("#!/bin/sh\necho sat\n")
    liar.chmod(0o755)
    monkeypatch.setenv("VERIFY", str(liar))
    assert vnncomp.main(["--root", str(root), "--family", "one"], root.parent) == 1


def test_an_answer_after_the_limit_does_not_count(root: Path) -> None:
    condition = vnncomp.Conditions(root, 0, 100.0, 1, None, root.parent)
    instance = Instance("one", "u.onnx", "p.vnnlib", 1e-9, "sat")
    row = vnncomp.run(tool("x=cat {onnx}"), instance, 0, condition)
    assert (row.verdict, row.answered) == ("timed-out", "unsat")
    assert vnncomp.is_wrong(row, instance.expected)


def test_a_missing_file_is_a_row(root: Path) -> None:
    (root / "one" / "u.onnx").unlink()
    assert bench(root, "--family", "one", "--peer", "good=cat {onnx}") == 0
    first = next(r for r in rows(root.parent) if r["onnx"] == "u.onnx")
    assert first["verdict"] == "error"
    assert "u.onnx" in first["note"]


def test_resume_runs_only_what_is_missing(root: Path) -> None:
    log = root.parent / "log"
    peer = f"x=sh -c 'echo ran >>{log}; cat {{onnx}}'"
    assert bench(root, "--peer", peer, "--repeat", "2") == 0
    before = rows(root.parent)
    assert len(before) == len(log.read_text().split()) == 6
    table = root.parent / "vnncomp.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:4]) + lines[4][:10])  # three rows and a torn one
    assert bench(root, "--peer", peer, "--repeat", "2", "--resume") == 0
    assert len(log.read_text().split()) == 6 + 3
    assert [(r["family"], r["onnx"], r["repeat"]) for r in rows(root.parent)] == [
        (r["family"], r["onnx"], r["repeat"]) for r in before
    ]
    assert bench(root, "--peer", "x=cat {onnx}", "--repeat", "2", "--resume") == 2  # another command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_keeps_what_there_is(root: Path, number: signal.Signals) -> None:
    """The first two instances answer; at the third the peer says so through a FIFO and hangs."""
    fifo = root.parent / "fifo"
    os.mkfifo(fifo)
    script = f"case {{family}} in two) echo $$ >{fifo}; sleep 1000;; *) cat {{onnx}};; esac"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(vnncomp.__file__).parent)!r}); import vnncomp; "
        "from pathlib import Path; sys.exit(vnncomp.main(sys.argv[2:], Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(root.parent), "--root", str(root), "--only-peers"]
    with subprocess.Popen(
        [*command, "--peer", f"x=sh -c '{script}'"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as harness:
        peer = int(fifo.read_text())
        harness.send_signal(number)
        out, err = harness.communicate()
    assert harness.returncode == 130
    assert "2 rows are kept" in err
    assert "| **all** | x | 2 | 1 | 1 |" in out
    assert [r["verdict"] for r in rows(root.parent)] == ["unsat", "sat"]
    with pytest.raises(ProcessLookupError):
        os.kill(peer, 0)


def test_turns_rotate() -> None:
    tools = [OURS, tool("x=cat"), tool("y=cat")]
    instances = [Instance("f", n, "p", 1.0) for n in "abcd"]
    order = vnncomp.turns(instances, tools, 2)
    firsts = [order[i][0].name for i in range(0, len(order), 3)]
    assert firsts == ["surebound", "x", "y", "surebound", "x", "y", "surebound", "x"]
    assert len({(t.name, i.key, r) for t, i, r in order}) == len(order) == 24


def test_reading_a_collection(root: Path) -> None:
    found = read(root, [], None, 30.0)
    assert [(i.family, i.onnx, i.timeout, i.expected, i.official) for i in found] == [
        ("one", "u.onnx", 30.0, "unsat", 99.0), ("one", "s.onnx", 30.0, "sat", None),
        ("two", "n.onnx", 30.0, "", None),
    ]  # fmt: skip
    (root / "two" / "instances.csv").write_text("n.onnx,p.vnnlib,soon\n")
    with pytest.raises(ValueError, match=r"instances.csv, line 1: 'n.onnx,p.vnnlib,soon' is not"):
        read(root, ["two"], None, 30.0)
    with pytest.raises(ValueError, match="three"):
        read(root, ["three"], None, 30.0)


def test_sample_is_even_over_families_and_verdicts() -> None:
    large = [Instance("large", str(n), "p", 1.0, "sat" if n % 4 == 0 else "unsat") for n in range(100)]
    every = [*large, *(Instance(f"small{k}", str(n), "p", 1.0) for k in range(3) for n in range(2))]
    picked = sample(every, 14, 0)
    assert sorted(i.family for i in picked) == ["large"] * 8 + [
        f"small{k}" for k in range(3) for _ in range(2)
    ]
    assert sum(i.expected == "sat" for i in picked) == 2
    assert picked == sample(list(reversed(every)), 14, 0)[::-1]
    assert picked != sample(every, 14, 1)
    assert picked == [i for i in every if i in picked]
    assert set(sample(every, 10, 0)) <= set(picked)  # a larger sample contains the smaller one
    assert sample(every, 1000, 0) == every


def test_packed_files_are_unpacked_once(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.onnx.gz", "wb") as file:
        file.write(b"content")
    target = unpacked(tmp_path / "a.onnx.gz", tmp_path / "cache")
    assert (target.name, target.read_bytes()) == ("a.onnx", b"content")
    assert unpacked(tmp_path / "a.onnx", tmp_path / "cache") == target
    (tmp_path / "b.gz").write_bytes((tmp_path / "a.onnx.gz").read_bytes()[:-5])
    with pytest.raises((OSError, EOFError)):
        unpacked(tmp_path / "b.gz", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("b"))


def test_an_instance_list_chooses_and_must_be_known(root: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "list.csv"
    chosen.write_text("family,onnx,vnnlib\none,s.onnx,p.vnnlib\n")
    assert bench(root, "--instances", str(chosen), "--peer", "p=cat {onnx}") == 0
    assert [r["onnx"] for r in rows(root.parent)] == ["s.onnx"]
    for text in ("family,onnx,vnnlib\none,x.onnx,p.vnnlib\n", "onnx,vnnlib\ns.onnx,p.vnnlib\n"):
        chosen.write_text(text)
        assert bench(root, "--instances", str(chosen), "--peer", "p=cat {onnx}") == 2


def test_official_keeps_what_the_official_run_decided(root: Path) -> None:
    assert bench(root, "--official", "--peer", "p=cat {onnx}") == 0
    assert [r["onnx"] for r in rows(root.parent)] == ["u.onnx"]
