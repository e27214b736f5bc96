"""Safety limits on files, and the one way to read a file that a user named."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bounds.errors import BadInput, LimitExceeded

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost before it is refused.

    Attributes:
        file_bytes: size of a file on disk, in bytes.
        decompressed_bytes: size of a ``.gz`` after decompression, in bytes.
        nodes: nodes of the ONNX graph, and of the graph it is lowered to.
        tensor_bytes: bytes of any one tensor once stored in float64.
    """

    file_bytes: int = 2 << 30
    decompressed_bytes: int = 4 << 30
    nodes: int = 100_000
    tensor_bytes: int = 4 << 30


def resolve(path: str | Path) -> Path:
    """The file that ``path`` means: itself, or ``path + '.gz'`` where only that exists."""
    plain = Path(path)
    packed = plain.with_name(plain.name + ".gz") if plain.name else plain
    return packed if not plain.exists() and packed.exists() else plain


def read_bytes(path: str | Path, limits: Limits | None = None) -> bytes:
    """Reads a file, decompressing ``.gz`` (streamed, so that a bomb stops at the limit).

    Raises:
        BadInput: missing, a directory, unreadable, not gzip, or truncated.
        LimitExceeded: larger than ``limits`` allow.
    """
    limits = limits or Limits()
    file = resolve(path)
    try:
        if file.is_dir():
            raise BadInput(f"{file}: is a directory; name a file")
        size = file.stat().st_size
        if size > limits.file_bytes:
            raise LimitExceeded(
                f"{file}: {size} bytes on disk exceed the limit of {limits.file_bytes}; "
                "raise the limit if intended"
            )
        if file.suffix == ".gz":
            with gzip.open(file, "rb") as stream:
                return _read_capped(stream, file, limits.decompressed_bytes)  # pyright: ignore[reportArgumentType]
        with file.open("rb") as stream:
            return _read_capped(stream, file, limits.file_bytes)
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file; check the path") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{file}: not a valid gzip file ({error}); compress it again or rename it") from None
    except EOFError:
        raise BadInput(f"{file}: truncated gzip file; copy or download it again") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{file}: cannot be read ({reason}); check the path and its permissions") from None


def _read_capped(stream: BinaryIO, file: Path, cap: int) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        if total > cap:
            raise LimitExceeded(
                f"{file}: content exceeds the limit of {cap} bytes; raise the limit if intended"
            )
        chunks.append(chunk)
    return b"".join(chunks)
