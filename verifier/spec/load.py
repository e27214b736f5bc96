"""Reads properties: the right language, compressed or not, under a size limit."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from bounds.errors import BadInput, LimitExceeded, SpecError
from verifier.files import read_most

from . import serial, vnnlib1, vnnlib2
from .compile import compile_cases
from .model import Property, Variable

MAX_BYTES = 1 << 30
_GZIP_MAGIC = b"\x1f\x8b"


def load(path: str | Path, *, max_bytes: int = MAX_BYTES, open_inputs: bool = False) -> Property:
    """Reads a property file: VNN-LIB 1.0 or 2.0, or a built property's JSON; gzip is recognised.

    Args:
        path: the file; when it does not exist, ``path`` + ``.gz`` is tried.
        max_bytes: limit on the size after decompression.
        open_inputs: accept inputs without bounds in VNN-LIB 2.0 (in 1.0 every input is bounded): a box is
            made up for them, in which counterexamples may be looked for, and ``Case.partial`` says that
            nothing can be proved on it.

    Raises:
        BadInput: the file cannot be read.
        LimitExceeded: it is too large, or its disjunctions expand too far.
        SpecError: it is not a valid property.
    """
    file = Path(path)
    if not file.exists() and file.with_name(file.name + ".gz").exists():
        file = file.with_name(file.name + ".gz")
    try:
        with file.open("rb") as stream:
            data = read_most(stream, max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{file}: cannot read the property ({reason}); check the path") from None
    return loads(data, source=str(path), max_bytes=max_bytes, open_inputs=open_inputs)


def loads(
    data: bytes | str, *, source: str = "", max_bytes: int = MAX_BYTES, open_inputs: bool = False
) -> Property:
    """Like :func:`load`, from the contents of a file."""
    raw = data.encode() if isinstance(data, str) else decompress(data, source=source, max_bytes=max_bytes)
    if len(raw) > max_bytes:
        raise LimitExceeded(f"{source or '<property>'}: larger than the limit of {max_bytes} bytes; split it")
    digest = hashlib.sha256(raw).hexdigest()
    text = decode(raw, source)
    if text.lstrip().startswith("{"):
        return serial.from_json(text, source=source)
    if not text.strip():
        raise SpecError("the file is empty; expected a VNN-LIB property", file=source or "<property>")
    if vnnlib2.is_vnnlib2(text):
        return _vnnlib2(text, source, digest, open_inputs=open_inputs)
    return _vnnlib1(text, source, digest)


def decompress(data: bytes, *, source: str = "", max_bytes: int = MAX_BYTES) -> bytes:
    """Unpacks gzip data (all members), or returns other data as they are.

    Raises:
        SpecError: truncated or corrupt.
        LimitExceeded: the result is larger than ``max_bytes``.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    parts: list[bytes] = []
    room = max_bytes + 1
    rest = data
    while rest.startswith(_GZIP_MAGIC):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            parts.append(unpacker.decompress(rest, room))
        except zlib.error as error:
            what = f"corrupt gzip data ({error}); fetch or compress the file again"
            raise SpecError(what, file=source or "<property>") from None
        room -= len(parts[-1])
        if room <= 0:
            what = f"{source or '<property>'}: decompresses to more than {max_bytes} bytes"
            raise LimitExceeded(f"{what}; split the property")
        if not unpacker.eof:
            what = "truncated gzip data; fetch or compress the file again"
            raise SpecError(what, file=source or "<property>")
        rest = unpacker.unused_data
    return b"".join(parts)


def decode(raw: bytes, source: str) -> str:
    """UTF-8 text; an error carries the position of the first byte that is not."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8; is this a property file?"
        raise SpecError(what, file=source or "<property>", line=line, column=column) from None


def _vnnlib1(text: str, source: str, digest: str) -> Property:
    parsed = vnnlib1.parse(text, source)
    cases = compile_cases(parsed.asserted, parsed.inputs, source=source)
    variables = (Variable("X", "input", (parsed.inputs,)), Variable("Y", "output", (parsed.outputs,)))
    return Property(variables, cases, source=source, sha256=digest)


def _vnnlib2(text: str, source: str, digest: str, *, open_inputs: bool) -> Property:
    parsed = vnnlib2.parse(text, source)
    names = parsed.input_names
    cases = compile_cases(
        parsed.asserted, len(names), source=source, name_of=names.__getitem__, open_inputs=open_inputs
    )
    return Property(parsed.variables, cases, parsed.networks, "vnnlib-2", source, digest)
