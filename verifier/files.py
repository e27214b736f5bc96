"""Files read up to a limit, and written whole: a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bounds.errors import BadInput

_CHUNK = 1 << 20


def read_most(stream: BinaryIO, most: int) -> bytes:
    """Up to ``most`` bytes, piece by piece: asked for all at once, Python makes room for ``most`` first."""
    parts: list[bytes] = []
    while most > 0 and (part := stream.read(min(_CHUNK, most))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """A binary file that takes the place of ``path`` when the block ends well.

    Pipes and devices such as ``/dev/stdout`` are written to as they are: they cannot be swapped.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with draft.open("wb") as file:
                yield file
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"{path}: cannot be written ({reason}); give another path or make room") from None
