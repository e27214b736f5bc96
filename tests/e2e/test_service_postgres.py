"""``verify serve`` as a process on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from job_models import FAILS, HOLDS, absolute
from store_backends import postgres

from service.client import Client

SERVE = [sys.executable, "-m", "verifier.cli.main", "serve", "--port", "0", "--log-level", "warning"]


@contextmanager
def served(folder: Path, url: str, *more: str, end: signal.Signals = signal.SIGTERM) -> Iterator[Client]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*SERVE, "--data", str(folder / "data"), "--database", url, *more],
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("surebound listens on "), (folder / "log").read_text()
        yield Client(line.split()[-1])
        os.killpg(process.pid, end)
        assert process.wait(60) == (0 if end is signal.SIGTERM else -end)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_jobs_live_in_postgresql(tmp_path: Path) -> None:
    for name, data in (("m.onnx", absolute()), ("holds", HOLDS.encode()), ("fails", FAILS.encode())):
        (tmp_path / name).write_bytes(data)
    with postgres() as url:
        # tables are made when somebody says so
        command = [*SERVE, "--data", str(tmp_path / "data"), "--database", url]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and "--migrate" in refused.stderr, refused
        with served(tmp_path, url, "--migrate", end=signal.SIGKILL) as client:
            first = client.wait(client.verify(tmp_path / "m.onnx", tmp_path / "holds").id, timeout_s=120)
            assert first.verdict == "verified"
            client.fetch(first.id, "certificate", tmp_path / "proof.sbcert")
        # killed, and begun again on what is in the database; the same question is answered by it
        with served(tmp_path, url) as client:
            assert client.status(first.id).document == first.document
            again = client.verify(tmp_path / "m.onnx", tmp_path / "holds")
            assert (again.state, again.document["cached_from"]) == ("finished", first.id)
            other = client.wait(client.verify(tmp_path / "m.onnx", tmp_path / "fails").id, timeout_s=120)
            assert other.verdict == "falsified"
    assert (tmp_path / "proof.sbcert").stat().st_size > 0
    assert "defect" not in (tmp_path / "log").read_text()
