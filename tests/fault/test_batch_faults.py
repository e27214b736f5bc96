"""A batch survives what happens to its workers and to itself.

The workers here speak the protocol of ``verifier.cli.worker`` but do what the model's file name says
(``sat.onnx`` answers, ``kill.onnx`` dies ...), so that each fault happens on purpose and at once.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest

from bounds.errors import BadInput, SureboundError
from verifier.cli.batch import Batch, Outputs, check_outputs
from verifier.cli.instances import read_instances
from verifier.cli.pool import Pool, Task
from verifier.cli.results import read_done

WORKER = """
import json, os, pathlib, signal, sys, time

def report(verdict):
    reason = {"code": "timeout", "text": "too slow"} if verdict == "timed-out" else None
    return {
        "format": "surebound-report", "format_version": 1, "version": "0", "verdict": verdict,
        "reason": reason, "semantics": "real", "model": {"path": "", "sha256": ""},
        "property": {"path": "", "sha256": ""}, "seed": 0, "witness": None, "certificate": None,
        "lower_bound": None, "closed_fraction": 0.0, "strategy": "", "notes": [],
        "stats": {"seconds": 0.0, "domains": 5, "leaves": 0, "settled_float64": 0, "settled_exact": 0,
                  "phases": {}},
    }

def send(message):
    print(json.dumps(message), flush=True)

assert os.environ["OMP_NUM_THREADS"] == "1"
send({"ready": True})
for line in sys.stdin:
    task = json.loads(line)
    word = pathlib.Path(task["model"]).stem.rsplit("-", 1)[0]
    send({"progress": {"domains": 1, "open": 1, "closed_fraction": 0.5}})
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "segv":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "exit":
        sys.exit(3)
    elif word == "hang":
        pathlib.Path(task["model"]).with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(600)
    elif word == "fail":
        send({"error": "unsupported operator Foo at node '3'"})
    else:
        send({"result": {"report": report(word), "assignment": "((X_0 1.0))" if word == "sat" else ""}})
"""


class Bench:
    """A folder with a list of instances and the outputs of batches over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = folder / "worker.py"
        self.worker.write_text(WORKER, encoding="utf-8")
        self.listing = folder / "instances.csv"
        self.outputs = Outputs(folder / "out.csv", folder / "out.json", folder / "txt", None)

    def list(self, *words: str, timeout: str = "60", expected: Sequence[str] = ()) -> None:
        (self.folder / "p.vnnlib").touch()
        lines = ["onnx,vnnlib,timeout,expected"]
        for i, word in enumerate(words):
            (self.folder / f"{word}-{i}.onnx").touch()
            lines.append(f"{word}-{i}.onnx,p.vnnlib,{timeout},{expected[i] if expected else ''}")
        self.listing.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *, jobs: int = 1, resume: bool = False) -> int:
        instances = read_instances(self.listing)
        check_outputs(self.outputs, self.listing, resume=resume)
        assert self.outputs.csv is not None
        done = read_done(self.outputs.csv, instances, self.outputs.json) if resume else []
        with Pool(jobs, (sys.executable, str(self.worker))) as pool:
            return Batch(instances, done, self.outputs, {"semantics": "real"}).run(pool)

    @property
    def rows(self) -> list[dict[str, str]]:
        assert self.outputs.csv is not None
        with self.outputs.csv.open(encoding="utf-8", newline="") as file:
            return sorted(csv.DictReader(file), key=lambda r: int(r["onnx"].split("-")[-1].split(".")[0]))

    @property
    def verdicts(self) -> list[str]:
        return [row["verdict"] for row in self.rows]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("jobs", [1, 3])
def test_dead_workers_are_errors_and_the_rest_goes_on(bench: Bench, jobs: int) -> None:
    bench.list("sat", "kill", "unsat", "segv", "exit", "fail", "unknown")
    assert bench.run(jobs=jobs) == 2
    assert bench.verdicts == ["sat", "error", "unsat", "error", "error", "error", "unknown"]
    notes = [row["note"] for row in bench.rows]
    assert "killed by SIGKILL (out of memory?" in notes[1]
    assert notes[3] == "worker was killed by SIGSEGV: last words"
    assert notes[4] == "worker ended with code 3"
    assert notes[5] == "unsupported operator Foo at node '3'"


def test_overruns_are_killed_and_timed_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.cli.pool.grace", lambda _timeout: 0.3)
    bench.list("hang", "unsat", timeout="0.2")
    assert bench.run() == 0
    assert bench.verdicts == ["timed-out", "unsat"]
    assert "overran" in bench.rows[0]["note"]
    assert not alive(int((bench.folder / "hang-0.pid").read_text()))


def test_every_output(bench: Bench, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.list("sat", "timed-out", "fail", "unsat", expected=("sat", "unsat", "unsat", "sat"))
    (bench.folder / "fail-2.onnx").unlink()  # a file that is missing is that instance's error
    assert bench.run() == 2
    document = json.loads((bench.folder / "out.json").read_text(encoding="utf-8"))
    schema = json.loads((root / "verifier/report/schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["complete"]
    assert document["wrong"] == 1
    assert document["counts"] == {"sat": 1, "unsat": 1, "unknown": 0, "timed-out": 1, "error": 1}
    texts = {p.name: p.read_text(encoding="utf-8") for p in (bench.folder / "txt").iterdir()}
    assert texts == {
        "0001-sat-0-p.txt": "sat\n((X_0 1.0))\n",
        "0002-timed-out-1-p.txt": "timeout\n",
        "0003-fail-2-p.txt": "error\n",
        "0004-unsat-3-p.txt": "unsat\n",
    }
    out, err = capsys.readouterr()
    assert "WRONG: expected sat" in out
    assert "wrong: 1" in err
    assert "no such file" in bench.rows[2]["note"]


def test_resume_skips_what_is_done_and_keeps_its_reports(bench: Bench) -> None:
    bench.list("sat", "unsat", "unknown")
    bench.run()
    before = bench.rows
    assert bench.outputs.csv is not None
    lines = bench.outputs.csv.read_text(encoding="utf-8").splitlines(keepends=True)
    bench.outputs.csv.write_text("".join(lines[:3]) + lines[3][:9], encoding="utf-8")  # killed while writing
    bench.worker.write_text(WORKER.replace('"domains": 5', '"domains": 6'), encoding="utf-8")
    assert bench.run(resume=True) == 0
    assert bench.rows[:2] == before[:2]
    assert bench.rows[2]["domains"] == "6"
    document = json.loads((bench.folder / "out.json").read_text(encoding="utf-8"))
    assert [e["report"]["stats"]["domains"] for e in document["instances"]] == [5, 5, 6]
    assert bench.run(resume=True) == 0  # nothing left to do
    assert len(bench.rows) == 3


def test_resume_counts_instances_that_are_listed_twice(bench: Bench) -> None:
    bench.list("sat")
    bench.listing.write_text("sat-0.onnx,p.vnnlib,1\nsat-0.onnx,p.vnnlib,2\n", encoding="utf-8")
    assert bench.outputs.csv is not None
    bench.run()
    lines = bench.outputs.csv.read_text(encoding="utf-8").splitlines(keepends=True)
    bench.outputs.csv.write_text("".join(lines[:2]), encoding="utf-8")
    bench.run(resume=True)
    assert len(bench.rows) == 2


def test_results_are_never_overwritten_or_mixed(bench: Bench) -> None:
    bench.list("sat")
    bench.run()
    with pytest.raises(BadInput, match="add --resume"):
        bench.run()
    assert bench.outputs.csv is not None
    bench.outputs.csv.write_text("some,other,table\n", encoding="utf-8")
    with pytest.raises(BadInput, match="not a results file"):
        bench.run(resume=True)
    with pytest.raises(BadInput, match="needs --out"):
        check_outputs(Outputs(), bench.listing, resume=True)
    with pytest.raises(BadInput, match="--certificates"):
        check_outputs(Outputs(certificates=bench.listing), bench.listing, resume=False)


def test_workers_that_cannot_start_end_the_batch(bench: Bench) -> None:
    bench.worker.write_text("import nothing_of_this_name\n", encoding="utf-8")
    bench.list("sat")
    with pytest.raises(SureboundError, match=r"workers cannot start: .*nothing_of_this_name"):
        bench.run()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_batch_faults import Bench
bench = Bench(Path({folder!r}))
sys.exit(bench.run(jobs=2))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_batch_loses_nothing_and_leaves_no_worker(
    bench: Bench, root: Path, number: signal.Signals, code: int
) -> None:
    bench.list("sat", "hang", "unsat", "hang", "unknown")
    driver = textwrap.dedent(DRIVER).format(here=str(Path(__file__).parent), folder=str(bench.folder))
    process = subprocess.Popen(
        [sys.executable, "-c", driver], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    pids = [bench.folder / f"hang-{i}.pid" for i in (1, 3)]
    wait_for(lambda: all(p.exists() and p.read_text() for p in pids))
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert {"sat", "unsat"} == set(bench.verdicts)
    if number != signal.SIGKILL:  # which leaves no time for goodbyes
        assert not json.loads((bench.folder / "out.json").read_text(encoding="utf-8"))["complete"]
        assert "not run: 3; continue with --resume" in err
        assert not any(alive(int(p.read_text())) for p in pids)
    for path in pids:
        stop(int(path.read_text()))
    # whatever made them hang is repaired
    bench.listing.write_text(bench.listing.read_text().replace("hang-", "unsat-"), encoding="utf-8")
    for i in (1, 3):
        (bench.folder / f"unsat-{i}.onnx").touch()
    assert bench.run(resume=True) == 0
    assert bench.verdicts == ["sat", "unsat", "unsat", "unsat", "unknown"]


def test_the_real_worker_ends_with_its_parent(root: Path, tmp_path: Path) -> None:
    """Its input ends when the parent dies in any way, and it must not outlive that, even at work."""
    code = """
        import sys, types, time
        api = types.ModuleType("verifier.api")
        def verify(*args, **rest):
            print("noise")
            print("busy", file=sys.stderr, flush=True)
            time.sleep(600)
        api.verify = verify
        sys.modules["verifier.api"] = api
        from verifier.cli.worker import main
        main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline()) == {"ready": True}
    spec = tmp_path / "p.vnnlib"
    spec.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))")
    task = {"model": "m", "spec": str(spec), "options": {"semantics": "real"}, "certificate": ""}
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.flush()
    while "busy" not in process.stderr.readline():
        pass
    out, _ = process.communicate(timeout=20)  # closes its input
    assert (out, process.returncode) == ("", 0)  # what was printed inside went to standard error


def test_the_real_worker_answers_bad_input_with_a_sentence(root: Path, tmp_path: Path) -> None:
    code = """
        import sys, types
        sys.modules["verifier.api"] = types.ModuleType("verifier.api")
        sys.modules["verifier.api"].verify = None
        from verifier.cli.worker import main
        main()
    """
    command = (sys.executable, "-c", textwrap.dedent(code))
    with Pool(1, command) as pool:
        task = Task("m", str(tmp_path / "nowhere.vnnlib"), {"semantics": "real", "timeout": None})
        outcomes = [e.outcome for e in pool.run([task]) if e is not None and e.outcome is not None]
    (outcome,) = outcomes
    assert outcome.verdict == "error"
    assert "nowhere.vnnlib" in outcome.note


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def stop(pid: int) -> None:
    """Ends a stand-in worker, which unlike the real one may outlive a parent killed by SIGKILL."""
    if alive(pid):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: object, limit: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
