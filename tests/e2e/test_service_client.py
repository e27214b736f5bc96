"""The client and its commands against a real server that comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from service_server import MODEL, VNNLIB, Running, serving, wait_until

from bounds.errors import BadInput
from service.client import Client, RemoteJob, ServerRefused, ServerUnreachable
from workers.jobs.model import Answer, Progress


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    model, prop = tmp_path / "m.onnx", tmp_path / "p.vnnlib"
    model.write_bytes(MODEL)
    prop.write_text(VNNLIB)
    return model, prop


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "data") as running:
        yield running


def test_submit_wait_fetch(server: Running, files: tuple[Path, Path], tmp_path: Path) -> None:
    client = Client(server.url)
    job = client.verify(*files, timeout_s=5)
    assert job.state == "queued" and not job.final
    assert client.wait(job.id, timeout_s=0.2).state == "queued"
    proof = server.keep("certificate", b"p" * 3_000_000, "application/zip")
    server.finish(server.claim(), artifacts=(proof,))
    done = client.wait(job.id)
    assert (done.verdict, done.files) == ("verified", ["certificate"])
    assert client.fetch(job.id, "certificate", tmp_path / "c").read_bytes() == b"p" * 3_000_000
    assert json.loads(client.fetch(job.id, "report.sarif", tmp_path / "s").read_text())["version"] == "2.1.0"
    with pytest.raises(ServerRefused, match="no file 'witness"):
        client.fetch(job.id, "witness", tmp_path / "w")


def test_what_the_server_refuses_is_told_in_its_words(server: Running, files: tuple[Path, Path]) -> None:
    client = Client(server.url)
    with pytest.raises(ServerRefused) as caught:
        client.submit({"kind": "verify", "model": client.upload(files[0]), "property": {"vnnlib": "(assert"}})
    assert caught.value.kind == "property-invalid" and caught.value.problem["errors"][0]["line"] == 1
    with pytest.raises(ServerRefused, match="there is no job"):
        client.status("j0")
    with pytest.raises(BadInput, match="no address"):
        Client("ftp://x")


def test_a_server_that_is_not_there_is_told(files: tuple[Path, Path]) -> None:
    with pytest.raises(ServerUnreachable, match="verify serve"):
        Client("http://127.0.0.1:1", patience_s=0).status("j0")


def test_waiting_goes_on_when_the_server_comes_back(tmp_path: Path, files: tuple[Path, Path]) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    found: list[RemoteJob] = []
    with serving(tmp_path / "data") as running:
        port = int(running.url.rpartition(":")[2])
        client = Client(running.url, patience_s=60)
        job = client.verify(*files).id
        claim = running.claim()
        running.store.heartbeat(claim, Progress(1.0, domains=1), 60.0)
        waiting = threading.Thread(
            target=lambda: found.append(client.wait(job, on_event=lambda n, d: seen.append((n, dict(d)))))
        )
        waiting.start()
        wait_until(lambda: any(n == "progress" for n, _ in seen))
    with serving(tmp_path / "data", port=port) as running:
        running.store.heartbeat(claim, Progress(2.0, domains=2), 60.0)
        running.finish(claim, Answer.FALSIFIED)
        waiting.join(60)
    assert found[0].verdict == "falsified"
    assert [d["domains"] for n, d in seen if n == "progress"] == [1, 2]
    assert [n for n, _ in seen][-1] == "done"


def test_a_submission_that_is_repeated_is_one_job(server: Running, files: tuple[Path, Path]) -> None:
    client = Client(server.url)
    asked = {"kind": "verify", "model": client.upload(files[0]), "property": {"vnnlib": VNNLIB}}
    first = client.submit(asked, idempotency_key="k")
    assert client.submit(asked, idempotency_key="k").id == first.id
    assert client.submit(asked).id != first.id


def verify(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "verifier.cli.main", *words],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_commands(server: Running, files: tuple[Path, Path], tmp_path: Path) -> None:
    where = {"SUREBOUND_SERVER": server.url}
    submitted = verify("submit", *map(str, files), "--timeout", "5", **where)
    job = submitted.stdout.strip()
    assert (submitted.returncode, job[:1]) == (0, "j"), submitted.stderr
    assert verify("status", job, **where).stdout == "queued\n"
    late = verify("wait", job, "--timeout", "0.1", **where)
    assert (late.returncode, late.stdout) == (2, "queued\n")
    server.finish(server.claim(), artifacts=(server.keep("certificate", b"proof"),))
    assert verify("wait", job, "--server", server.url).stdout == "verified\n"
    assert verify("fetch", job, "certificate", "--out", str(tmp_path / "c"), **where).returncode == 0
    assert (tmp_path / "c").read_bytes() == b"proof"
    assert json.loads(verify("status", job, "--json", **where).stdout)["verdict"] == "verified"
    refused = verify("status", "nothing", **where)
    assert refused.returncode == 2 and refused.stderr.startswith("error: the server refused (404)")
    assert verify("status", job).stderr.startswith("error: which server?")


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    made = verify("keys", "create", "--tenant", "team", "--note", "for CI", *data).stdout.strip()
    _, identity, secret = made.split("_", 2)
    listed = verify("keys", "list", *data).stdout
    assert identity in listed and "team" in listed and "for CI" in listed and secret not in listed
    assert verify("keys", "revoke", identity, *data).returncode == 0
    assert "revoked" in verify("keys", "list", *data).stdout
    assert verify("keys", "revoke", identity, *data).returncode == 2
    assert "unknown scopes" in verify("keys", "create", "--tenant", "t", "--scopes", "all", *data).stderr
    for file in (tmp_path / "data").rglob("*"):
        assert file.is_dir() or secret.encode() not in file.read_bytes()


def test_serving_beyond_loopback_without_keys_is_refused(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    refused = verify("serve", "--host", "0.0.0.0", "--port", "0", *data)  # noqa: S104
    assert refused.returncode == 2 and "verify keys create" in refused.stderr
    wrong = verify("serve", *data, SUREBOUND_REQUIRE_KEYS="false", SUREBOUND_HOST="10.0.0.1")
    assert wrong.returncode == 2 and "can be reached from other machines" in wrong.stderr
