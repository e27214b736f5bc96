"""Mutations of what a caller may send, and a count of the answers."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROUNDS_PER_TEST = 300
Tally = Counter[int]

_INTERESTING = [
    b"\0",
    b"\xff",
    b"(",
    b")",
    b"1e999",
    b"-",
    b"\xed\xa0\x80",
    b"{",
    b'"',
    b"\\u0000",
    b"\r\n\r\n",
    b"..",
    b"/",
]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """A few flips, cuts, repetitions and insertions."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << dice.randrange(8)
            case 1:
                del out[at : at + dice.randint(1, 64)]
            case 2:
                out[at:at] = out[at : at + dice.randint(1, 256)]
            case 3:
                out[at:at] = dice.choice(_INTERESTING)
            case _:
                other = dice.randrange(len(out) + 1)
                out[at:at] = out[other : other + 32]
    return bytes(out)


def fuzz(url: str, examples: Path, what: str, rounds: int, seed: int) -> Tally:
    """Sends mutations; statuses of the answers. A connection that breaks is an error of the test."""
    dice = random.Random(seed)  # noqa: S311 - it shall repeat
    model = (examples / "models" / "pendulum.onnx").read_bytes()
    text = (examples / "properties" / "pendulum_limit_unsat.vnnlib").read_bytes()
    tally: Tally = Counter()
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        digest = hashlib.sha256(model).hexdigest()
        client.put(f"/v1/models/{digest}", content=model)
        body = json.dumps(
            {"kind": "verify", "model": digest, "property": {"vnnlib": text.decode()}, "timeout_s": 5}
        )
        senders: dict[str, Callable[[], httpx.Response]] = {
            "model": lambda: _put(client, mutate(model, dice), dice),
            "gzip": lambda: _put(
                client, mutate(gzip.compress(dice.choice([model, bytes(2_000_000)])), dice), dice
            ),
            "vnnlib": lambda: _property(client, digest, mutate(text, dice)),
            "body": lambda: client.post(
                "/v1/jobs", content=mutate(body.encode(), dice), headers={"Content-Type": "application/json"}
            ),
            "path": lambda: _path(client, digest, dice),
        }
        for _ in range(rounds):
            tally[senders[what]().status_code] += 1
    return tally


def _put(client: httpx.Client, data: bytes, dice: random.Random) -> httpx.Response:
    digest = hashlib.sha256(data).hexdigest()
    if dice.random() < 0.2:
        digest = digest[::-1]
    return client.put(f"/v1/models/{digest}", content=data)


def _property(client: httpx.Client, digest: str, text: bytes) -> httpx.Response:
    asked: dict[str, Any] = {"kind": "verify", "model": digest, "timeout_s": 5}
    asked["property"] = {"vnnlib": text.decode("utf-8", "surrogatepass" if b"\xed\xa0" in text else "replace")
                         if _decodes(text) else text.decode("latin-1")}  # fmt: skip
    content = json.dumps(asked).encode()
    return client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})


def _decodes(text: bytes) -> bool:
    try:
        text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _path(client: httpx.Client, digest: str, dice: random.Random) -> httpx.Response:
    parts = ["..", "%2e%2e", "%2f", "etc", "passwd", digest, "%00", "models", "jobs", "files", "%5c",
             "artifacts", "*", "content", "a" * 300, "%ff", "certificate", "j0"]  # fmt: skip
    path = "/v1/" + "/".join(dice.choice(parts) for _ in range(dice.randint(1, 5)))
    raw = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    return client.request(dice.choice(["GET", "PUT", "DELETE", "POST"]), raw, content=b"x")
