"""How fast does the API answer while many clients poll, and does a long queue drain without growth of memory?

Two parts, each with a ``verify serve`` process of its own on loopback and SQLite:

- *polling*: CLIENTS connections ask for a job once a second (as ``Retry-After: 1`` says), with the entity tag
  that they were given; jobs change meanwhile, one in a hundred polls. Latency is from a request's first byte
  to the answer's last, on the client, which shares the cores with the server.
- *draining*: JOBS small jobs are submitted (each a question of its own, ``fresh``), and one slot works them
  off; the resident memory of the server and of its children is read every second.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import ENVIRONMENT, ROOT, VERIFY, described, provenance, write

MODEL = ROOT / "examples" / "models" / "pendulum.onnx"


@contextmanager
def served(folder: Path, slots: int) -> Iterator[tuple[str, int]]:
    """A server; its address and process id."""
    words = [str(VERIFY), "serve", "--port", "0", "--data", str(folder), "--slots", str(slots)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*words, "--log-level", "warning"], stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT, text=True
        )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def call(url: str, method: str, path: str, data: bytes | None = None) -> Any:
    """One request, its JSON."""
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def question(number: int) -> dict[str, Any]:
    """A small job like no other."""
    width = 0.01 + number * 1e-6
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
    text += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} {width:.7f}))" for i in range(2))
    return {
        "kind": "verify",
        "model": hashlib.sha256(MODEL.read_bytes()).hexdigest(),
        "property": {"vnnlib": text + "(assert (>= Y_0 1000))"},
        "timeout_s": 30,
        "fresh": True,
        "options": {"certificate": False},
    }


async def polling(url: str, clients: int, seconds: float, jobs: list[str]) -> list[float]:
    """Latencies in seconds of every poll but the first of each client."""
    host, port = url.removeprefix("http://").split(":")
    end = time.monotonic() + seconds
    latencies: list[float] = []

    async def one(number: int) -> None:
        await asyncio.sleep(number / clients)  # people do not come all at once
        reader, writer = await asyncio.open_connection(host, int(port))
        tag, first = "", True
        while time.monotonic() < end:
            job = jobs[number % len(jobs)]
            head = f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: {host}\r\n"
            begun = time.perf_counter()
            writer.write((head + (f"If-None-Match: {tag}\r\n" if tag else "") + "\r\n").encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            fields = {k.lower(): v for k, _, v in (x.partition(": ") for x in answer.decode().split("\r\n"))}
            status = int(answer.split(b" ", 2)[1])
            assert status in (200, 304), answer
            await reader.readexactly(int(fields.get("content-length", 0)) if status == 200 else 0)
            if not first:
                latencies.append(time.perf_counter() - begun)
            tag, first = fields["etag"], False
            await asyncio.sleep(1.0)
        writer.close()

    async def changing() -> None:
        # somebody cancels now and then, so that not every answer is 304
        for job in jobs:
            await asyncio.sleep(0.5)
            if time.monotonic() >= end:
                return
            await asyncio.to_thread(call, url, "POST", f"/v1/jobs/{job}/cancel", b"")

    await asyncio.gather(*(one(i) for i in range(clients)), changing())
    return sorted(latencies)


def scheduled(process: int | str) -> tuple[float, float]:
    """Seconds that a process's threads ran, and that they were ready but had to wait for a core."""
    ran = waited = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        fields = (thread / "schedstat").read_text().split()
        ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran / 1e9, waited / 1e9


def resident(process: int) -> int:
    """Bytes of a process and its children that are in memory."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(folder.name) == process or int(fields[1]) == process:
                total += int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
    return total


def draining(folder: Path, jobs: int) -> dict[str, Any]:
    """Seconds and memory."""
    with served(folder, 1) as (url, pid):
        upload(url)
        memory: list[tuple[float, int, int]] = []
        begun = time.monotonic()
        for i in range(jobs):
            call(url, "POST", "/v1/jobs", json.dumps(question(i)).encode())
        submitted = time.monotonic() - begun
        while True:
            text = urllib.request.urlopen(url + "/metrics", timeout=60).read().decode()  # noqa: S310
            found = {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith("surebound_jobs{")
            }
            left = sum(v for k, v in found.items() if 'state="queued"' in k or 'state="running"' in k)
            memory.append((round(time.monotonic() - begun, 1), int(left), resident(pid)))
            if not left:
                break
            time.sleep(1.0)
        counts = {k: int(v) for k, v in found.items()}
    quarter = max(len(memory) // 4, 1)
    return {
        "jobs": jobs,
        "submitted_s": round(submitted, 2),
        "seconds": round(memory[-1][0], 2),
        "counts": counts,
        "resident_mib_second_quarter": round(
            max(m[2] for m in memory[quarter : 2 * quarter] or memory) / 2**20, 1
        ),
        "resident_mib_last_quarter": round(max(m[2] for m in memory[-quarter:]) / 2**20, 1),
        "memory": memory[:: max(len(memory) // 50, 1)],
    }


def upload(url: str) -> None:
    """The model."""
    call(url, "PUT", f"/v1/models/{hashlib.sha256(MODEL.read_bytes()).hexdigest()}", MODEL.read_bytes())


def main() -> int:
    """Runs both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="Do not write results.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        with served(folder / "a", 0) as (url, pid):
            upload(url)
            jobs = [call(url, "POST", "/v1/jobs", json.dumps(question(i)).encode())["id"] for i in range(100)]
            before = scheduled(pid), scheduled("self")
            latencies = asyncio.run(polling(url, given.clients, given.seconds, jobs))
            after = scheduled(pid), scheduled("self")
        drained = draining(folder / "b", given.jobs) if given.jobs else {}

    def at(share: float) -> float:
        return round(1000 * latencies[min(int(share * len(latencies)), len(latencies) - 1)], 2)

    polled = {
        "polls": len(latencies),
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": at(1),
    }
    for who, (a, b) in {"server": (before[0], after[0]), "clients": (before[1], after[1])}.items():
        polled |= {f"{who}_ran_s": round(b[0] - a[0], 2), f"{who}_waited_for_a_core_s": round(b[1] - a[1], 2)}
    record = provenance(clients=given.clients, seconds=given.seconds, jobs=given.jobs)
    record |= {"load": [round(x, 2) for x in os.getloadavg()], "polling": polled, "draining": drained}
    print(json.dumps({k: record[k] for k in ("load", "polling", "draining")}, indent=1))
    if not given.quick:
        write("service_load", record, table(record, polled, drained))
    return 0


def table(record: dict[str, Any], polled: dict[str, Any], drained: dict[str, Any]) -> str:
    """For people."""
    lines = ["# Load of the service", "", "| | |", "|---|---:|"]
    lines += [f"| {name} | {value} |" for name, value in {**polled, **drained}.items() if name != "memory"]
    load = f"load average of the machine at the end: {record['load'][0]} (other work ran on it)"
    return "\n".join([*lines, "", described(record) + "; " + load, ""])


if __name__ == "__main__":
    sys.exit(main())
