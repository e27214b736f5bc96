"""The form of a new job: files taken in, fields read, mistakes said beside the field they are in."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO, Final

from pydantic import TypeAdapter, ValidationError

from bounds.errors import BadInput, LimitExceeded
from service.api.models import FILES, MODELS, Unpacked, check_bytes, mine
from service.auth import Caller
from service.context import Context
from service.pages.points import PICTURES, parse_numbers, read_point
from service.problems import Problem
from service.schemas import NewJobBody
from verifier.spec import load
from workers.jobs.model import Model

_BODY: Final[TypeAdapter[Any]] = TypeAdapter(NewJobBody)
_BLOCK: Final = 1 << 20
_KINDS: Final = ("vnnlib", "robustness", "sweep", "lipschitz")
_NAME: Final = re.compile(r"[^ -~]")

# last part of a place in the body -> the field of the form
_FIELDS: Final = {
    "vnnlib": "vnnlib",
    "input": "point",
    "label": "label",
    "radius": "radius",
    "clip": "clip",
    "data": "data",
    "radii": "radii",
    "samples": "samples",
    "timeout_s": "timeout",
    "memory_mb": "memory",
    "model": "model",
}


class Mistakes(Exception):
    """Something in the form cannot be used.

    Attributes:
        found: field -> a sentence.
        draft: the form with what could be kept (uploaded files by their digests).
    """

    def __init__(self, found: Mapping[str, str], draft: Draft) -> None:
        super().__init__("; ".join(found.values()))
        self.found = dict(found)
        self.draft = draft


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of the form; empty names and sizes mean that none was chosen."""

    name: str
    file: BinaryIO


@dataclass(slots=True)
class Draft:
    """The form's fields as text, as they were filled in."""

    model: str = ""
    kind: str = "vnnlib"
    vnnlib: str = ""
    point: str = ""
    divide: str = "1"
    label: str = ""
    radius: str = ""
    norm: str = "inf"
    clip_low: str = ""
    clip_high: str = ""
    data: str = ""
    radii: str = ""
    samples: str = ""
    sweep_norm: str = "inf"
    lipschitz_norm: str = "2"
    timeout: str = ""
    memory: str = ""
    semantics: str = "real"
    once: str = ""

    @staticmethod
    def of(given: Mapping[str, str]) -> Draft:
        """The known fields of a form or a query."""
        return Draft(**{f.name: given[f.name] for f in fields(Draft) if f.name in given})


@dataclass(slots=True)
class Reading:
    """One reading of a form: collects every mistake instead of stopping at the first."""

    here: Context
    caller: Caller
    draft: Draft
    uploads: Mapping[str, Upload]
    mistakes: dict[str, str] = field(default_factory=dict[str, str])

    def body(self) -> Any:
        """The job that is asked for (a :data:`service.schemas.NewJobBody`).

        Raises:
            Mistakes.
        """
        model = self.file("model_file", "model", MODELS, "choose a network: drop its ONNX file here")
        read = {
            "vnnlib": self.vnnlib,
            "robustness": self.robustness,
            "sweep": self.sweep,
            "lipschitz": self.lipschitz,
        }
        if self.draft.kind not in _KINDS:
            raise Mistakes({"kind": "choose what to ask"}, self.draft)
        asked = read[self.draft.kind]()
        body: dict[str, Any] = {**asked, "model": model, "options": {"semantics": self.draft.semantics}}
        for name, text, read_number in (
            ("timeout_s", "timeout", float),
            ("memory_mb", "memory", int),
        ):
            value = self.number(text, read_number, optional=True)
            if value is not None:
                body[name] = value
        if self.mistakes:
            raise Mistakes(self.mistakes, self.draft)
        try:
            return _BODY.validate_python(body)
        except ValidationError as error:
            found = {_field(e["loc"]): str(e["msg"]).removeprefix("Value error, ") for e in error.errors()}
            raise Mistakes(found, self.draft) from None

    def vnnlib(self) -> dict[str, Any]:
        """A property as text or file."""
        upload = self.uploads.get("vnnlib_file")
        if upload is not None:
            limit = self.here.settings.max_property
            data = upload.file.read(limit + 1)
            try:
                if len(data) > limit:
                    raise LimitExceeded(f"“{upload.name}” is over the limit of {limit} bytes; split it")
                raw = load.decompress(data, source=upload.name, max_bytes=limit)
                self.draft.vnnlib = load.decode(raw, upload.name)
            except (BadInput, LimitExceeded) as error:
                self.mistakes["vnnlib"] = str(error)
        # browsers send line ends as CR LF; a digest should not depend on how it came
        text = self.draft.vnnlib.replace("\r\n", "\n")
        if not text.strip() and "vnnlib" not in self.mistakes:
            self.mistakes["vnnlib"] = "give a property: drop a VNN-LIB file here, or write it below"
        return {"kind": "verify", "property": {"vnnlib": text}}

    def robustness(self) -> dict[str, Any]:
        """A ball around a point."""
        point = self.point()
        asked: dict[str, Any] = {
            "input": point,
            "label": self.number("label", int),
            "radius": self.draft.radius.strip(),
            "norm": self.draft.norm,
        }
        if not asked["radius"]:
            self.mistakes["radius"] = "give a radius, such as 0.03 or 2/255"
        if self.draft.clip_low.strip() or self.draft.clip_high.strip():
            low, high = self.number("clip_low", float), self.number("clip_high", float)
            asked["clip"] = (low, high)
        return {"kind": "verify", "property": {"robustness": asked}}

    def sweep(self) -> dict[str, Any]:
        """A data set and radii."""
        asked: dict[str, Any] = {
            "kind": "sweep",
            "data": self.file("data_file", "data", FILES, "choose samples: an .npz file of x and y"),
            "radii": self.draft.radii.replace(",", " ").split(),
            "norm": self.draft.sweep_norm,
        }
        if not asked["radii"]:
            self.mistakes["radii"] = "give radii, such as: 0.01 0.02 0.05"
        samples = self.number("samples", int, optional=True)
        return asked if samples is None else {**asked, "samples": samples}

    def lipschitz(self) -> dict[str, Any]:
        """Only a norm."""
        return {"kind": "lipschitz", "norm": self.draft.lipschitz_norm}

    def number(self, name: str, read: Callable[[str], Any], *, optional: bool = False) -> Any:
        """A field's number; None (and a mistake, where it is needed) without one."""
        text = getattr(self.draft, name).strip()
        if not text and optional:
            return None
        try:
            return read(text)
        except ValueError:
            kind = "a whole number" if read is int else "a number"
            place = "clip" if name.startswith("clip") else name
            self.mistakes[place] = f"give {kind}" + (f", not “{text[:40]}”" if text else "")
            return None

    def point(self) -> list[float]:
        """The input: from a file or from text, divided as asked."""
        upload = self.uploads.get("point_file")
        by = self.number("divide", float)
        try:
            if upload is None:
                values = parse_numbers(self.draft.point)
            else:
                values, picture = read_point(upload.name, upload.file)
                by = PICTURES if picture and by == 1 else by
        except BadInput as error:
            self.mistakes["point"] = str(error)
            return []
        if by is None:
            return []
        if not by:
            self.mistakes["divide"] = "give a number other than 0"
            return []
        values = [v / by for v in values]
        # so that it is still there when something else has to be corrected
        self.draft.point, self.draft.divide = " ".join(repr(v) for v in values), "1"
        return values

    def file(self, upload_name: str, name: str, role: str, missing: str) -> str:
        """The digest of a file that was sent now, or of one that was chosen among the tenant's."""
        upload = self.uploads.get(upload_name)
        if upload is not None:
            try:
                digest = store(self.here, self.caller, upload, role)
            except Problem as error:
                self.mistakes[name] = str(error.detail)
                return ""
            setattr(self.draft, name, digest)
            return digest
        digest = getattr(self.draft, name).strip()
        if not digest:
            self.mistakes[name] = missing
            return ""
        try:
            mine(self.here, self.caller, digest)
        except Problem:
            self.mistakes[name] = "this file is no longer there; send it again"
        return digest


def _field(place: tuple[int | str, ...]) -> str:
    """The field of the form that a place in the body comes from."""
    return next((_FIELDS[str(p)] for p in reversed(place) if str(p) in _FIELDS), "kind")


def store(here: Context, caller: Caller, upload: Upload, role: str) -> str:
    """Keeps a file under its digest, within the same limits as the API's; its digest.

    Raises:
        Problem: it is empty, too large, or the tenant has no room left.
    """
    size = upload.file.seek(0, io.SEEK_END)
    upload.file.seek(0)
    if not size:
        raise Problem(422, "empty-file", f"the file “{upload.name}” is empty; choose another")
    check_bytes(here, caller.tenant, size)
    unpacked = Unpacked(here.settings.max_unpacked)
    writer = here.artifacts.writer(most=here.settings.max_upload)
    try:
        for block in _blocks(upload.file):
            unpacked.feed(block)
            writer.write(block)
        digest, size = writer.commit()
    except LimitExceeded as error:
        raise Problem(413, "too-large", str(error)) from None
    finally:
        writer.discard()
    facts = {"role": FILES} if role == FILES else {}
    name = _NAME.sub("_", upload.name.replace("\\", "/").rpartition("/")[2])[:200]
    here.store.put_model(Model(digest, caller.tenant, size, name, 0.0, facts))
    here.store.audit(caller.tenant, f"{role}.put", {"sha256": digest, "size": size, "key": caller.key})
    return digest


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def once(draft: Draft, body: Any) -> str:
    """An idempotency key: sending the same form twice gives one job, a changed form another."""
    return "page-" + hashlib.sha256(f"{draft.once}\0{body.model_dump_json()}".encode()).hexdigest()[:40]
