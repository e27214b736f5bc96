"""Artefacts in an object store (S3 and what speaks like it, or whatever fsspec knows), with copies in a
folder.

A file is written to the folder first, so that limits and digests are seen to before anything leaves, then put
under its digest; whoever needs a file that the folder lacks brings it. Contents never change under a name, so
a copy is as good as the original, and two hosts that write the same file write the same bytes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Generator
from pathlib import Path
from typing import Any

from bounds.errors import BadInput
from workers.jobs.artifacts import Artifacts, WrongDigest
from workers.jobs.database import StoreUnreachable


def open_artifacts(path: str | Path, url: str = "", *, quota: int | None = None) -> Artifacts:
    """The store of artefacts: a folder, or an object store with a folder of copies.

    Args:
        path: the folder.
        url: such as ``s3://bucket/prefix``; "": none.
        quota: bytes in all, or None.

    Raises:
        BadInput: a package for this kind of address is missing, or it is none.
    """
    return RemoteArtifacts(url, path, quota=quota) if url else Artifacts(path, quota=quota)


class RemoteArtifacts(Artifacts):
    """See the module. Keys and regions come from where their library looks for them (``AWS_...`` variables).

    Args:
        url, path, quota: see :func:`open_artifacts`.
        options: of fsspec's file system.
    """

    def __init__(self, url: str, path: str | Path, *, quota: int | None = None, **options: Any) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise BadInput(f"{url} needs fsspec: pip install 'surebound[s3]'") from None
        try:
            # no instance of another process, or from before a fork
            self._fs, self._base = url_to_fs(
                url, skip_instance_cache=True, use_listings_cache=False, **options
            )
        except (ImportError, ValueError) as error:
            raise BadInput(
                f"{url} cannot be used ({error}); give an address like s3://bucket/prefix"
            ) from None
        self._base = str(self._base).rstrip("/")
        super().__init__(path, quota=quota)

    def _key(self, sha256: str) -> str:
        self._place(sha256)  # which refuses what is no digest
        return f"{self._base}/{sha256[:2]}/{sha256}"

    def _published(self, sha256: str, place: Path) -> None:
        with self._reached():
            if not self._fs.exists(self._key(sha256)):
                self._fs.makedirs(self._key(sha256).rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(place), self._key(sha256))

    def _fetch(self, sha256: str) -> bool:
        key = self._key(sha256)
        with self._reached():
            if not self._fs.exists(key):
                return False
            with self._fs.open(key, "rb") as file:
                chunks = iter(lambda: file.read(1 << 20), b"")
                writer = self.writer(expected=sha256)
                try:
                    for chunk in chunks:
                        writer.write(chunk)
                    writer.commit(sync=False, publish=False)
                finally:
                    writer.discard()
        return True

    def has(self, sha256: str) -> bool:
        """See the base; the original counts as well as the copy."""
        if super().has(sha256):
            return True
        with self._reached():
            return bool(self._fs.exists(self._key(sha256)))

    def touch(self, sha256: str) -> bool:
        """See the base. An original becomes young by being written again."""
        if not self.has(sha256):
            return False
        with self._reached(), contextlib.suppress(FileNotFoundError):
            self._fs.put_file(str(self.file(sha256)), self._key(sha256))
        return super().touch(sha256)

    def delete(self, sha256: str) -> bool:
        """See the base; copies on other hosts go when these collect."""
        key, copied = self._key(sha256), super().delete(sha256)
        with self._reached():
            there = bool(self._fs.exists(key))
            if there:
                self._fs.rm_file(key)
        return there or copied

    def collect(self, kept: Container[str], older_s: float = 3600.0) -> int:
        """See the base; the originals are counted, copies go with them."""
        copies = super().collect(kept, older_s)
        limit, removed = time.time() - older_s, 0
        with self._reached():
            for key in self._fs.find(self._base):
                name = str(key).rpartition("/")[2]
                if name in kept or self._fs.modified(key).timestamp() > limit:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(key)
                    removed += 1
        return max(removed, copies)

    def used(self) -> int:
        """Bytes of all originals."""
        with self._reached():
            found: dict[str, Any] = self._fs.find(self._base, detail=True)
        return sum(int(info["size"]) for info in found.values())

    @contextlib.contextmanager
    def _reached(self) -> Generator[None]:
        """Whatever an object store's library raises means that it was not reached, or refused us."""
        try:
            yield
        except (BadInput, StoreUnreachable, WrongDigest):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise StoreUnreachable(f"the store of artefacts does not answer: {text}") from error
