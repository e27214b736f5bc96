"""The gate interrupted, killed, and run twice at once: reports are written, the cache stays usable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(Path(sys.executable).with_name("verify"))
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

# at t = 0 both runs agree, so with no slack this is never decided
ENDLESS = """
[models.pendulum]
path = "pendulum.onnx"
[[requirement]]
id = "endless"
kind = "monotonicity"
model = "pendulum"
lower = -0.2
upper = 0.2
input = 1
direction = "decreasing"
[budget]
query_seconds = 3000
"""


def start(folder: Path) -> subprocess.Popen[str]:
    words = [PROGRAM, "gate", "--format", "json"]
    return subprocess.Popen(
        words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(event: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something to be there; the program ending first is a failure."""
    pause = threading.Event()
    while not event():
        assert process.poll() is None, process.communicate()
        pause.wait(0.005)


def proofs(folder: Path) -> list[Path]:
    return list((folder / ".surebound/cache/proofs").glob("*/*.sbcert"))


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "examples/ci_gate", folder, ignore=shutil.ignore_patterns(".surebound"))
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_with_its_report(example: Path, number: int) -> None:
    """Requirements that were decided before keep their outcome; the one at work is inconclusive."""
    shutil.copy(ROOT / "examples/models/pendulum.onnx", example)
    with (example / "surebound.toml").open("a") as file:
        file.write(ENDLESS.split("[budget]")[0])
    text = (example / "surebound.toml").read_text()
    (example / "surebound.toml").write_text(text.replace("query_seconds = 20", "query_seconds = 3000"))
    with start(example) as process:
        # the requirement before it is the last whose proof is kept
        until((example / ".surebound/cache/history/dark-is-calm").exists, process)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 128 + number, err
    report = json.loads(out)
    outcomes = {r["id"]: r["outcome"] for r in report["requirements"]}
    assert outcomes == {
        "robust": "holds",
        "gain": "holds",
        "dark-is-calm": "holds",
        "endless": "inconclusive",
    }
    assert "cancelled" in report["requirements"][-1]["questions"][0]["message"]


def test_a_kill_leaves_a_cache_that_the_next_run_uses(example: Path) -> None:
    with start(example) as process:
        until(lambda: len(proofs(example)) >= 3, process)
        process.kill()
        process.communicate()
    with start(example) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["cache"]["reused"] >= 3 and report["cache"]["rejected"] == 0


def test_two_runs_share_a_cache(example: Path) -> None:
    with start(example) as one, start(example) as other:
        answers = [process.communicate() for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), answers
    reports = [json.loads(out) for out, _ in answers]
    assert all(r["cache"]["rejected"] == 0 and not r["notes"] for r in reports)
    with start(example) as again:
        out, _ = again.communicate()
    assert json.loads(out)["cache"]["proved"] == 0


def test_a_cache_on_a_full_disk_costs_only_the_cache(example: Path) -> None:
    """A limit on file sizes stands for it: no proof can be written, in the cache or anywhere."""
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); "
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code = limit + ignore + "from verifier.cli.main import main; main(['gate', '--format', 'json'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=example, env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["outcome"] == "holds" and any("not be kept" in n for n in report["notes"])
