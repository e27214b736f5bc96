"""Reads a certificate file. Everything in it is hostile until its type, shape and range are checked."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

import numpy as np

from bounds.errors import BadInput, CertificateInvalid, CertificateRejected, LimitExceeded
from verifier.check.network import Array
from verifier.verdict import Semantics, Status

FORMAT, VERSION, OLDER = "surebound-certificate", 5, (2, 3, 4)
MAX_JSON = 1 << 28
MAX_BYTES = 1 << 33  # of all arrays together, decompressed
ARRAYS: Mapping[str, tuple[str, str]] = {
    # name -> element type, shape: T nodes, E evidence, B boxes, G multipliers, H rows of boxes, U lines with
    # a slope for every edge, V of these slopes, W whole
    # numbers; N neurons,
    # S lines of scalar elements, P planes of products; n, s, p: bytes of bits of neurons, scalar elements
    # and operands of products
    "node_dim": ("<i4", "T"),
    "node_at": ("<f8", "T"),
    "node_left": ("<i4", "T"),
    "ev_node": ("<i4", "E"),
    "ev_box": ("<i4", "E"),
    "ev_disjunct": ("<i4", "E"),
    "ev_row": ("<i4", "E"),
    "ev_exact": ("|u1", "E"),
    "ev_slopes": ("|u1", "EN"),
    "ev_lines": ("<f4", "ES"),
    "ev_mixes": ("|u1", "EP"),
    "box_node": ("<i4", "B"),
    "box_slopes": ("|u1", "Bn"),
    "box_lines": ("<f4", "BS"),
    "box_mixes": ("|u1", "BP"),
    "box_refined": ("|u1", "Bn"),
    "box_refined_scalars": ("|u1", "Bs"),
    "box_refined_products": ("|u1", "Bp"),
    "row_box": ("<i4", "H"),
    "row_operand": ("<i4", "H"),
    "row_upper": ("|u1", "H"),
    "row_slopes": ("|u1", "HN"),
    "row_lines": ("<f4", "HS"),
    "row_mixes": ("|u1", "HP"),
    "beta_ev": ("<i4", "G"),
    "beta_operand": ("<i4", "G"),
    "beta": ("<f8", "G"),
    "edge_ev": ("<i4", "U"),
    "edge_neuron": ("<i4", "U"),
    "edge_slopes": ("|u1", "V"),
    "whole_case": ("<i4", "W"),
    "whole_input": ("<i4", "W"),
}
# the version since which an array is stored; the others are in all of them
SINCE: Mapping[str, int] = {
    **{n: 3 for n in ARRAYS if n == "ev_box" or n.startswith(("row_", "beta"))},
    **{n: 4 for n in ARRAYS if n.startswith("whole_")},
    **{n: 5 for n in ARRAYS if n.startswith("edge_")},
}
_KEYS = {
    "format": str, "version": int, "verdict": str, "semantics": str, "models": list, "property": dict,
    "relus": list, "scalars": list, "products": list, "producer": dict,
    "root_precision": int, "forward": bool,
}  # fmt: skip


Listed: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A well-formed certificate; whether it proves anything is another question."""

    verdict: Status
    semantics: Semantics
    models: tuple[tuple[str, str], ...]
    language: str
    property_sha256: str
    property_text: str
    relus: Listed
    scalars: Listed
    products: Listed
    forward: bool
    witness: Mapping[str, Any]
    arrays: Mapping[str, Array]


def read(path: Path) -> Certificate:
    """Reads and validates the container.

    Raises:
        BadInput: the file cannot be read.
        CertificateInvalid: not a certificate of this version.
        LimitExceeded: larger than a stated limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
        raise CertificateInvalid(f"{path}: not a readable certificate ({error}); create it again") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CertificateInvalid(f"{path}: damaged or not a ZIP file ({error}); create it again") from None


def _invalid(what: str) -> NoReturn:
    raise CertificateInvalid(f"certificate: {what}; create it again")


def _read(archive: zipfile.ZipFile) -> Certificate:
    files = {info.filename: info for info in archive.infolist()}
    if len(files) != len(archive.infolist()) or "certificate.json" not in files:
        _invalid("names are repeated, or certificate.json is missing")
    size = sum(info.file_size for info in files.values())
    if files["certificate.json"].file_size > MAX_JSON or size > MAX_BYTES:
        raise LimitExceeded(f"certificate: {size} bytes when decompressed are over the limit of {MAX_BYTES}")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in files.values()):
        _invalid("compressed by another method than deflate")
    document = _json(archive.read("certificate.json"))
    verdict = Status(document["verdict"])
    version = document["version"]
    stored = [n for n in ARRAYS if version >= SINCE.get(n, 0)]
    stored = [] if verdict is Status.SAT else stored
    wanted = {"certificate.json"} | {f"arrays/{name}.npy" for name in stored}
    if set(files) != wanted:
        _invalid(f"holds {sorted(set(files) ^ wanted)[:4]} too many or too few")
    listed = _listed(document, "relus"), _listed(document, "scalars"), _listed(document, "products")
    arrays: dict[str, Array] = {}
    counts = [sum(n for _, n in part) for part in listed]
    sizes = {"N": counts[0], "S": 2 * counts[1], "P": 2 * counts[2]}
    sizes |= {"n": _bytes(counts[0]), "s": _bytes(counts[1]), "p": _bytes(2 * counts[2])}
    for name in stored:
        with archive.open(f"arrays/{name}.npy") as stream:
            arrays[name] = _array(stream, name, sizes)
    if stored and version in OLDER:
        arrays |= _newer(arrays, sizes, version)
    prop = document["property"]
    return Certificate(
        verdict,
        Semantics(document["semantics"]),
        tuple((_text(m, "name"), _text(m, "sha256")) for m in document["models"]),
        _text(prop, "language"),
        _text(prop, "sha256"),
        _text(prop, "text"),
        *listed,
        document["forward"],
        document.get("witness", {}),
        arrays,
    )


def _newer(arrays: Mapping[str, Array], sizes: Mapping[str, int], version: int) -> dict[str, Array]:
    """Backward compatibility: what files of an older version mean by not having the newer arrays."""
    missing = [name for name, since in SINCE.items() if since > version]
    shapes = {name: tuple(sizes.get(c, 0) for c in ARRAYS[name][1]) for name in missing}
    found = {n: np.zeros(shape, ARRAYS[n][0]) for n, shape in shapes.items()}
    if "ev_box" in found:
        found["ev_box"] = np.searchsorted(arrays["box_node"], arrays["ev_node"]).astype(np.int32)
    return found


def _listed(document: Mapping[str, Any], key: str) -> Listed:
    return tuple((_text(r, "tensor"), _count(r, "size")) for r in document[key])


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _json(data: bytes) -> dict[str, Any]:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) != len(pairs):
            _invalid("a key of certificate.json is repeated")
        return dict(pairs)

    try:
        document: Any = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=_invalid)
    except RecursionError:
        _invalid("certificate.json is nested too deeply")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        _invalid(f"is not a {FORMAT}")
    found: dict[str, Any] = document
    if found.get("version") not in (VERSION, *OLDER) or isinstance(found["version"], bool):
        _invalid(f"version {found.get('version')!r} is not {VERSION} (or one of {OLDER})")
    wanted = set(_KEYS) | ({"witness"} if found.get("verdict") == Status.SAT.value else set())
    if set(found) != wanted:
        _invalid(f"keys {sorted(set(found) ^ wanted)[:4]} too many or too few")
    if any(type(found[key]) is not kind for key, kind in _KEYS.items()) or found["root_precision"] != 64:
        _invalid("a value of certificate.json has the wrong type")
    if found["verdict"] not in (Status.SAT.value, Status.UNSAT.value):
        _invalid(f"verdict {found['verdict']!r} needs no certificate")
    if "witness" in found and not isinstance(found["witness"], dict):
        _invalid("the witness is not an object")
    return found


def _text(holder: Any, key: str) -> str:
    if not isinstance(holder, dict) or not isinstance(holder.get(key), str):
        _invalid(f"'{key}' is missing or not a string")
    return holder[key]


def _count(holder: Any, key: str) -> int:
    value: Any = holder.get(key) if isinstance(holder, dict) else None
    if type(value) is not int or not 0 <= value < 1 << 31:
        _invalid(f"'{key}' is missing or not a size")
    return value


def _array(stream: IO[bytes], name: str, sizes: dict[str, int]) -> Array:
    """One npy file, never through pickle: the header is compared with what is expected, then the bytes."""
    dtype, letters = ARRAYS[name]
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        _invalid(f"{name}: npy version {version}")
    one = version == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
    shape, fortran, found = read_header(stream)
    if found.hasobject or found.str != dtype or len(shape) != len(letters):
        _invalid(f"{name}: is {found.str} of shape {shape}, not {dtype} of {len(letters)} dimensions")
    for letter, n in zip(letters, shape, strict=True):
        if sizes.setdefault(letter, n) != n:
            _invalid(f"{name}: has {n} where {sizes[letter]} are expected")
    if fortran and len(shape) > 1:
        _invalid(f"{name}: is in Fortran order")
    count = math.prod(shape) * found.itemsize
    if count > MAX_BYTES:
        raise LimitExceeded(f"certificate: {name} takes {count} bytes, over the limit of {MAX_BYTES}")
    data = stream.read(count)
    if len(data) != count or stream.read(1):
        _invalid(f"{name}: holds less or more than its shape says")
    array = np.frombuffer(data, found).reshape(shape)
    if name.endswith("lines") and not np.isfinite(array).all():
        _invalid(f"{name}: holds a slope that is not finite")
    return array


def reject(step: str, detail: str) -> NoReturn:
    """The certificate is readable, but does not prove its claim."""
    raise CertificateRejected(step, detail)
