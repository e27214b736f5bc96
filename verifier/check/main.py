"""Checks a certificate against the model and the property it speaks about. Trusts nothing else."""

from __future__ import annotations

import gzip
import hashlib
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from bounds.errors import BadInput, LimitExceeded, QueryMismatch
from verifier.check import evidence, witness
from verifier.check.importer import combine, inline
from verifier.check.network import Kind, Network
from verifier.check.reader import Certificate, read, reject
from verifier.check.tree import Tree
from verifier.check.whole import whole_numbers
from verifier.files import read_most
from verifier.spec.model import Property
from verifier.spec.polynomial import linear_cases
from verifier.verdict import Status

MAX_MODEL = 1 << 32
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Model:
    """Self-contained ONNX bytes, and the digest of the decompressed file and its external tensors."""

    data: bytes
    digest: str

    @staticmethod
    def of(data: bytes) -> Model:
        """A model without external tensors."""
        return Model(data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What an accepted certificate proves.

    Attributes:
        verdict, semantics: the claim, proved.
        nodes: nodes of the tree.
        evidence: refutations re-proved.
        seconds: time taken.
        message: a remark for people, or "".
    """

    verdict: str
    semantics: str
    nodes: int
    evidence: int
    seconds: float
    message: str


def check(
    certificate: Path,
    models: Mapping[str, Path],
    property_path: Path | None,
    *,
    progress: Progress | None = None,
) -> CheckResult:
    """Checks a certificate file.

    Args:
        certificate: the ``.sbcert`` file.
        models: the ONNX file of each network of the property that is not declared equal to another;
            a single one may have the name "".
        property_path: the property; None only for built properties, which travel in the certificate.
        progress: called with (done, total) evidence boxes.

    Raises:
        CertificateInvalid, BadInput, LimitExceeded: the file cannot be read.
        CertificateRejected: it does not prove its claim.
        ModelInvalid, ModelUnsupported, SpecError, QueryMismatch: from model and property.
    """
    start = time.monotonic()
    content = read(Path(certificate))
    prop = _property(content, property_path)
    files = {name: load_model(Path(path)) for name, path in models.items()}
    return check_parsed(content, files, prop, progress=progress, start=start)


def check_parsed(
    certificate: Certificate,
    models: Mapping[str, bytes | Model],
    prop: Property,
    *,
    progress: Progress | None = None,
    start: float | None = None,
) -> CheckResult:
    """As :func:`check`, from contents: ``models`` maps names to models, or to decompressed ONNX bytes."""
    start = time.monotonic() if start is None else start
    if (certificate.language, certificate.property_sha256) != (prop.language, prop.sha256):
        reject("property", "its digest or language is not that of the property given")
    loaded = {name: m if isinstance(m, Model) else Model.of(m) for name, m in models.items()}
    files = _assign(certificate, loaded, prop)
    cases = linear_cases(prop)
    message = "" if any(not c.empty for c in cases) else "the input set is empty"
    if certificate.verdict is Status.SAT:
        message = witness.check_witness(certificate, prop, files, lambda: _network(certificate, files, prop))
        nodes = pieces = 0
    else:
        if any(case.partial for case in cases):
            reject("property", "its cases are samples of an unbounded input set, which prove nothing")
        arrays = certificate.arrays
        network = cache(lambda: _network(certificate, files, prop))
        cases, mask = whole_numbers(network, arrays, cases)
        tree = Tree(arrays, cases, sum(evidence.operands(arrays)), mask)
        evidence.validate(arrays, cases, tree)
        tree.check_settled(cases, arrays["ev_node"], arrays["ev_disjunct"])
        evidence.prove(network(), certificate, cases, tree, progress)
        nodes, pieces = tree.size, len(arrays["ev_node"])
    seconds = time.monotonic() - start
    return CheckResult(
        certificate.verdict.value, certificate.semantics.value, nodes, pieces, seconds, message
    )


def _property(certificate: Certificate, path: Path | None) -> Property:
    from verifier.spec import load, serial

    if path is not None:
        return load.load(path)
    if not certificate.property_text:
        raise BadInput("the certificate does not hold its property; give it with --property")
    return serial.from_json(certificate.property_text, source="property of the certificate")


def load_model(path: Path) -> Model:
    """A file, decompressed, with its external tensors."""
    file = path if path.exists() else path.with_name(path.name + ".gz")
    try:
        with file.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(file) if packed else file.open("rb") as stream:
            data = read_most(cast("BinaryIO", stream), MAX_MODEL + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot read the model ({error}); check the path") from None
    if len(data) > MAX_MODEL:
        raise LimitExceeded(f"{path}: over {MAX_MODEL} bytes; use a smaller model")
    digest = hashlib.sha256(data)
    data, blobs = inline(data, file.parent)
    for blob in blobs:
        digest.update(blob)
    return Model(data, digest.hexdigest())


def _assign(certificate: Certificate, models: Mapping[str, Model], prop: Property) -> dict[str, bytes]:
    """The file of every network of the property; digests are compared with the certificate's."""
    own = [ref.name for ref in prop.networks if ref.relation != "equal"]
    stated = dict(certificate.models)
    if len(own) == 1 and len(models) == 1 and len(certificate.models) == 1:
        models, stated = {own[0]: next(iter(models.values()))}, {own[0]: certificate.models[0][1]}
    if sorted(models) != sorted(own):
        raise QueryMismatch(f"models are given for {sorted(models)}, the property declares {sorted(own)}")
    if sorted(stated) != sorted(own) or len(stated) != len(certificate.models):
        reject("model", f"it speaks about networks {sorted(stated)}, the property about {sorted(own)}")
    for name, model in models.items():
        if model.digest != stated[name]:
            reject("model", f"network '{name}' is another file than the one it speaks about")
    files = {name: model.data for name, model in models.items()}
    pending = [ref for ref in prop.networks if ref.relation == "equal"]
    while pending:
        known = [ref for ref in pending if ref.same_as in files]
        if not known:
            raise QueryMismatch(f"network '{pending[0].name}' equals an undeclared one; correct the property")
        files |= {ref.name: files[ref.same_as] for ref in known}
        pending = [ref for ref in pending if ref.name not in files]
    return files


def _network(certificate: Certificate, files: Mapping[str, bytes], prop: Property) -> Network:
    network = combine(files, prop)
    for kind, listed in (
        (Kind.RELU, certificate.relus),
        (Kind.SCALAR, certificate.scalars),
        (Kind.PRODUCT, certificate.products),
    ):
        found = [network.nodes[i] for i in network.of(kind)]
        sizes = [node.size for node in found]
        named = all(name in node.names for node, (name, _) in zip(found, listed, strict=False))
        if sizes != [size for _, size in listed] or not named:
            reject("model", f"its list of {kind.value} nodes is not that of the model")
    return network
