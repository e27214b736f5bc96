"""A client of the service: standard library only. A call whose connection is lost is repeated.

Submitting carries an Idempotency-Key, so a repeated one is the same job; waiting resumes the stream of
events at the last one seen; downloads go on where they stopped and are compared with their digest.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from bounds.errors import BadInput, SureboundError

FINAL: Final = frozenset({"finished", "failed", "cancelled"})
_LOST: Final = (OSError, http.client.HTTPException, TimeoutError)
_LATER: Final = frozenset({429, 502, 503, 504})
_BLOCK: Final = 1 << 20


class ServerRefused(SureboundError):
    """The server answered with a problem.

    Attributes:
        status: of HTTP.
        kind: last part of the problem's type, such as "property-invalid".
        problem: the whole document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        super().__init__(
            f"the server refused ({status}): {problem.get('detail') or problem.get('title', '')}"
        )


class ServerUnreachable(SureboundError):
    """The server did not answer for as long as the client is patient."""


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job as the server told it last; ``document`` is its whole JSON."""

    id: str
    state: str
    verdict: str | None
    reason: str
    error: str
    document: Mapping[str, Any]

    @property
    def final(self) -> bool:
        """Whether nothing will change."""
        return self.state in FINAL

    @property
    def files(self) -> list[str]:
        """Names of what it left."""
        return [str(a["name"]) for a in self.document.get("artifacts", ())]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Talks to one server.

    Args:
        server: address, such as ``http://127.0.0.1:8732``.
        key: ``sb_...``, or "" for a server without keys.
        patience_s: how long a lost connection is tried again.
        timeout_s: of one attempt.
    """

    def __init__(
        self, server: str, key: str = "", *, patience_s: float = 60.0, timeout_s: float = 30.0
    ) -> None:
        parts = urllib.parse.urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"{server!r} is no address of a server; give one like http://127.0.0.1:8732")
        self.server = server.rstrip("/")
        self.key = key
        self.patience_s = patience_s
        self.timeout_s = timeout_s

    def upload(self, path: str | Path, *, folder: str = "models") -> str:
        """Uploads a file, unless the server has it; its digest.

        Args:
            path: the file.
            folder: "models", or "files" for data sets and certificates.
        """
        file = Path(path)
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = file.stat().st_size
        except OSError as error:
            raise BadInput(f"{file}: cannot be read ({error.strerror}); check the path") from None
        where = f"/v1/{folder}/{digest}"
        if self._call("GET", where, missing=True).status == http.HTTPStatus.OK:
            return digest
        name = file.name.encode("ascii", "replace").decode()
        headers = {
            "Content-Type": "application/octet-stream",
            "X-File-Name": name,
            "Content-Length": str(size),
        }
        self._call("PUT", where, headers=headers, file=file)
        return digest

    def submit(self, body: Mapping[str, Any], *, idempotency_key: str = "") -> RemoteJob:
        """Asks for a job; a repetition after a lost connection is the same job."""
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key or secrets.token_hex(16),
        }
        data = json.dumps(body, allow_nan=False).encode()
        return _job(self._call("POST", "/v1/jobs", headers=headers, data=data))

    def verify(self, model: str | Path, vnnlib: str | Path, **limits: Any) -> RemoteJob:
        """Uploads a network and asks for a property of it; more fields of the body by name."""
        try:
            text = Path(vnnlib).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{vnnlib}: cannot be read as text ({error}); check the path") from None
        body = {"kind": "verify", "model": self.upload(model), "property": {"vnnlib": text}, **limits}
        return self.submit(body)

    def status(self, job: str) -> RemoteJob:
        """The job as it is."""
        return _job(self._call("GET", f"/v1/jobs/{_quoted(job)}"))

    def cancel(self, job: str) -> RemoteJob:
        """Asks for a job to be stopped."""
        return _job(self._call("POST", f"/v1/jobs/{_quoted(job)}/cancel", data=b""))

    def wait(
        self,
        job: str,
        timeout_s: float | None = None,
        on_event: Callable[[str, Mapping[str, Any]], None] | None = None,
    ) -> RemoteJob:
        """Follows a job to its end (or for so many seconds); the job as it is then.

        Args:
            job: its id.
            timeout_s: seconds, None for as long as it takes.
            on_event: gets every event's name and data once, also over lost connections.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        last, done, read_out = "", False, False
        lost_since: float | None = None
        while True:
            try:
                for number, name, data in self._events(job, last, until):
                    last, lost_since, done = number or last, None, name == "done"
                    if on_event is not None and name != "job":
                        on_event(name, data)
            except _LOST as error:
                if until is None or time.monotonic() < until:
                    lost_since = lost_since or time.monotonic()
                    if time.monotonic() - lost_since > self.patience_s:
                        raise self._unreachable(error) from None
                    time.sleep(0.5)
                    continue
            now = self.status(job)
            if until is not None and time.monotonic() >= until:
                return now
            if now.final and (on_event is None or done or read_out):
                return now
            # it ended while nobody listened: what was missed is still in its log
            read_out = now.final
            if not now.final:
                time.sleep(0.2)

    def fetch(self, job: str, name: str, path: str | Path) -> Path:
        """Downloads a file of a job ("certificate", "witness", "report.sarif", or any in ``files``)."""
        special = name in ("certificate", "witness", "result") or name.startswith("report.")
        listed = name in self.status(job).files
        where = f"/v1/jobs/{_quoted(job)}/" + (
            name if special and not listed else f"artifacts/{_quoted(name)}"
        )
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.unlink(missing_ok=True)
        tag = self._download(where, part)
        expected = tag.removeprefix('"sha256:').removesuffix('"') if tag.startswith('"sha256:') else ""
        if expected:
            with part.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                    part.unlink()
                    raise BadInput(f"{name} of job {job} arrived damaged; fetch it again")
        part.replace(target)
        return target

    def _download(self, where: str, part: Path) -> str:
        """Into a file, going on where a lost connection ended; the entity tag."""
        began = time.monotonic()
        tag = ""
        while True:
            have = part.stat().st_size if part.exists() else 0
            headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
            try:
                with (
                    self._open("GET", where, headers=headers) as answer,
                    part.open("ab" if answer.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as out,
                ):
                    tag = answer.headers.get("ETag", "")
                    wanted = answer.headers.get("Content-Length")
                    got = 0
                    while block := answer.read(_BLOCK):
                        out.write(block)
                        got += len(block)
                    if wanted is None or got == int(wanted):
                        return tag
            except urllib.error.HTTPError as error:
                raise _refusal(error) from None
            except _LOST as error:
                if time.monotonic() - began > self.patience_s:
                    raise self._unreachable(error) from None
            time.sleep(0.5)

    def _events(
        self, job: str, last: str, until: float | None
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(id, name, data) of a job's events after one; ends with the stream or the time."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        wait = self.timeout_s if until is None else min(max(until - time.monotonic(), 0.05), self.timeout_s)
        try:
            with self._open(
                "GET", f"/v1/jobs/{_quoted(job)}/events", headers=headers, timeout=wait
            ) as answer:
                number = name = ""
                for raw in answer:
                    line = raw.decode().rstrip("\n")
                    field, _, value = line.partition(": ")
                    if field == "id":
                        number = value
                    elif field == "event":
                        name = value
                    elif field == "data":
                        yield number, name, json.loads(value)
                    elif not line:
                        number = name = ""
                    if until is not None and time.monotonic() >= until:
                        return
        except urllib.error.HTTPError as error:
            if error.code not in _LATER:
                raise _refusal(error) from None
            raise OSError(str(error)) from None

    def _call(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        file: Path | None = None,
        missing: bool = False,
    ) -> _Answer:
        """One request, repeated while the connection fails; all ours may be."""
        began = time.monotonic()
        while True:
            try:
                return self._once(method, where, headers or {}, data, file)
            except urllib.error.HTTPError as error:
                if missing and error.code == http.HTTPStatus.NOT_FOUND:
                    return _Answer(error.code, {}, b"")
                if error.code not in _LATER or time.monotonic() - began > self.patience_s:
                    raise _refusal(error) from None
                wait = error.headers.get("Retry-After", "1")
                time.sleep(min(float(wait) if wait.isdecimal() else 1.0, 10.0))
            except _LOST as error:
                if time.monotonic() - began > self.patience_s:
                    raise self._unreachable(error) from None
                time.sleep(0.5)

    def _once(
        self, method: str, where: str, headers: Mapping[str, str], data: bytes | None, file: Path | None
    ) -> _Answer:
        if file is None:
            with self._open(method, where, headers=headers, data=data) as answer:
                return _Answer(answer.status, dict(answer.headers), answer.read())
        with file.open("rb") as stream, self._open(method, where, headers=headers, data=stream) as answer:
            return _Answer(answer.status, dict(answer.headers), answer.read())

    def _open(
        self,
        method: str,
        where: str,
        *,
        headers: Mapping[str, str],
        data: bytes | BinaryIO | None = None,
        timeout: float | None = None,
    ) -> Any:
        request = urllib.request.Request(self.server + where, data=data, method=method)  # noqa: S310 - http(s), checked
        for name, value in headers.items():
            request.add_header(name, value)
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        return urllib.request.urlopen(request, timeout=timeout or self.timeout_s)  # noqa: S310

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(f"{self.server} does not answer ({error}); is 'verify serve' running there?")


def from_environment(server: str | None) -> Client:
    """A client for ``--server`` or SUREBOUND_SERVER, with the key in SUREBOUND_KEY.

    Raises:
        BadInput: neither names a server.
    """
    address = server or os.environ.get("SUREBOUND_SERVER", "")
    if not address:
        raise BadInput("which server? Give --server URL, or set SUREBOUND_SERVER")
    return Client(address, os.environ.get("SUREBOUND_KEY", ""))


def _job(answer: _Answer) -> RemoteJob:
    document = json.loads(answer.body)
    return RemoteJob(
        id=document["id"],
        state=document["state"],
        verdict=document["verdict"],
        reason=document["reason"],
        error=document["error"],
        document=document,
    )


def _refusal(error: urllib.error.HTTPError) -> ServerRefused:
    try:
        problem = json.loads(error.read())
    except (ValueError, OSError):
        problem = {"detail": str(error)}
    return ServerRefused(error.code, problem if isinstance(problem, dict) else {"detail": str(error)})


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
