"""Files by their digest, in a folder: models, certificates, reports, checkpoints.

A file's name is the SHA-256 of its contents, so equal files are kept once, a name never changes its meaning,
and a reader can tell damage. Nothing that a user sends becomes part of a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Container, Generator, Iterable
from pathlib import Path
from typing import BinaryIO

from bounds.errors import BadInput, LimitExceeded
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import Artifact

CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class WrongDigest(BadInput):
    """The contents are not those that the name promises."""


class Artifacts:
    """A folder of files, two levels deep (``ab/abcdef...``); drafts are written beside them.

    Args:
        path: the folder; made if it is missing.
        quota: bytes in all, or None.
        most: bytes of one file, or None.
    """

    def __init__(self, path: str | Path, *, quota: int | None = None, most: int | None = None) -> None:
        self.path, self.quota, self.most = Path(path), quota, most
        self._drafts = self.path / "drafts"
        with self._in_words():
            self._drafts.mkdir(parents=True, exist_ok=True)

    def put(
        self,
        chunks: Iterable[bytes],
        *,
        expected: str | None = None,
        most: int | None = None,
        sync: bool = True,
    ) -> tuple[str, int]:
        """Writes a file as it comes in; (digest, size).

        Args:
            chunks: the contents.
            expected: the digest that it must have.
            most: bytes, besides the folder's own limit.
            sync: whether it must outlive a loss of power.

        Raises:
            WrongDigest: it has another digest.
            LimitExceeded: it is larger than a limit or the quota.
            StoreUnreachable: it cannot be written; nothing is left behind.
        """
        writer = Writer(self, expected, most)
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit(sync=sync)
        finally:
            writer.discard()

    def writer(self, *, expected: str | None = None, most: int | None = None) -> Writer:
        """For chunks that come one by one: ``write`` each, then ``commit``, and ``discard`` in any case."""
        return Writer(self, expected, most)

    def put_bytes(self, data: bytes) -> tuple[str, int]:
        """A file from memory."""
        return self.put([data])

    def put_file(self, source: Path | BinaryIO, name: str, media_type: str, *, sync: bool = True) -> Artifact:
        """A copy of a file, as an artefact of a job."""
        with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as file:
            digest, size = self.put(_chunks(file), sync=sync)
        return Artifact(name, digest, size, media_type)

    def file(self, sha256: str) -> Path:
        """Where a file is.

        Raises:
            BadInput: this is no digest, or there is no such file.
        """
        path = self._place(sha256)
        if not path.is_file() and not self._fetch(sha256):
            raise BadInput(f"there is no file with digest {sha256}; upload it (again)")
        return path

    def has(self, sha256: str) -> bool:
        """Whether the file is there."""
        return self._place(sha256).is_file()

    def touch(self, sha256: str) -> bool:
        """Like :meth:`has`; the file counts as young again, since somebody is about to name it anew."""
        try:
            os.utime(self._place(sha256))
        except FileNotFoundError:
            return False
        return True

    def open(self, sha256: str) -> BinaryIO:
        """The file, for reading."""
        return self.file(sha256).open("rb")

    def read(self, sha256: str, *, most: int = 1 << 28) -> bytes:
        """A small file, compared with its digest.

        Raises:
            LimitExceeded: it is larger than ``most`` bytes.
            WrongDigest: it is damaged.
        """
        with self.open(sha256) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise LimitExceeded(f"file {sha256} has over {most} bytes; stream it")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise WrongDigest(f"file {sha256} is damaged: its contents have another digest; make it again")
        return data

    def delete(self, sha256: str) -> bool:
        """Removes a file; False if there is none. The caller knows that nobody names it."""
        try:
            self._place(sha256).unlink()
        except FileNotFoundError:
            return False
        return True

    def collect(self, kept: Container[str], older_s: float = 3600.0) -> int:
        """Removes files that nobody names, and drafts left over; how many. Young ones may be named soon."""
        limit, removed = time.time() - older_s, 0
        for path in [*self._files(), *self._drafts.iterdir()]:
            if path.name in kept:
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    removed += 1
        return removed

    def used(self) -> int:
        """Bytes of all files."""
        total = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _fetch(self, sha256: str) -> bool:
        """Brings a file that lies elsewhere; False if there is none. For other kinds of stores."""
        del sha256
        return False

    def _published(self, sha256: str, place: Path) -> None:
        """A file has taken its place in the folder. For other kinds of stores."""

    def _files(self) -> Iterable[Path]:
        return (f for folder in self.path.glob("??") for f in folder.iterdir())

    def _place(self, sha256: str) -> Path:
        if not _DIGEST.match(sha256):
            raise BadInput("a file is named by 64 hexadecimal digits in lower case (SHA-256)")
        return self.path / sha256[:2] / sha256

    @contextlib.contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreUnreachable(f"{self.path}: cannot be written ({reason}); make room") from None


class Writer:
    """One file on its way in."""

    def __init__(self, store: Artifacts, expected: str | None, most: int | None) -> None:
        self._store, self._expected = store, expected
        limits = [n for n in (most, store.most) if n is not None]
        self._most = min(limits, default=None)
        self._room = None if store.quota is None else store.quota - store.used()
        self._hash, self.size = hashlib.sha256(), 0
        self._path = store._drafts / secrets.token_hex(12)  # pyright: ignore[reportPrivateUsage]
        with store._in_words():  # pyright: ignore[reportPrivateUsage]
            self._file = self._path.open("xb")

    def write(self, chunk: bytes) -> None:
        """The next bytes. Raises: LimitExceeded, StoreUnreachable."""
        self.size += len(chunk)
        if self._most is not None and self.size > self._most:
            raise LimitExceeded(f"the file has over {self._most} bytes; send a smaller one")
        if self._room is not None and self.size > self._room:
            raise LimitExceeded(
                "the folder of artefacts is as large as it may be; delete some jobs or models"
            )
        self._hash.update(chunk)
        with self._store._in_words():  # pyright: ignore[reportPrivateUsage]
            self._file.write(chunk)

    def commit(self, *, sync: bool = True, publish: bool = True) -> tuple[str, int]:
        """The file takes its place, whole and on disk; (digest, size). ``publish`` False: a copy has come in.

        Raises: WrongDigest, StoreUnreachable.
        """
        digest = self._hash.hexdigest()
        if self._expected is not None and digest != self._expected:
            raise WrongDigest(f"the contents have digest {digest}, not {self._expected}; send the right file")
        place = self._store._place(digest)  # pyright: ignore[reportPrivateUsage]
        with self._store._in_words():  # pyright: ignore[reportPrivateUsage]
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
            self._file.close()
            place.parent.mkdir(exist_ok=True)
            self._path.replace(place)
            if sync:
                _sync_folder(place.parent)
        if publish:
            self._store._published(digest, place)  # pyright: ignore[reportPrivateUsage]
        return digest, self.size

    def discard(self) -> None:
        """Removes the draft, if it did not take its place."""
        with contextlib.suppress(OSError):  # closing writes what is left, for which there may be no room
            self._file.close()
        self._path.unlink(missing_ok=True)


def _chunks(file: BinaryIO) -> Iterable[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
