"""``check``: a certificate, by the checker that trusts nothing of the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bounds.errors import CertificateRejected
from workers.jobs.model import Answer, Json, Progress
from workers.kinds.common import file_of, model_of, named, property_of, write_json
from workers.task import Ending, Hearer, Task


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`. Accepted: verified; rejected: unknown, for it proves nothing."""
    hear.progress(Progress(0.0, "check"))
    path = Path(file_of(task, "certificate"))
    try:
        result = _check(task, path, hear)
    except CertificateRejected as error:
        return Ending(Answer.UNKNOWN, "certificate-rejected", result={"step": error.step}, error=str(error))
    return Ending(Answer.VERIFIED, result=result, files=(write_json(task, "report.json", result),))


def _check(task: Task, path: Path, hear: Hearer) -> Json:
    from verifier.check.lipschitz import check_lipschitz, is_lipschitz_certificate, read_object
    from verifier.check.radius import FORMAT, check_radius

    model = named(task, "model", ".onnx")
    if not is_lipschitz_certificate(path):
        return _verdict(task, path, model, hear)
    document = read_object(path)
    if isinstance(document, dict) and document.get("format") == FORMAT:
        radius = check_radius(path, model)
        return {
            "claim": "radius", "radius": radius.radius, "norm": radius.norm, "label": radius.label,
            "seconds": radius.seconds,
        }  # fmt: skip
    bound = check_lipschitz(path, model)
    return {
        "claim": "lipschitz", "upper": bound.upper, "norm": bound.norm, "output_norm": bound.output_norm,
        "local": bound.local, "seconds": bound.seconds,
    }  # fmt: skip


def _verdict(task: Task, path: Path, model: Path, hear: Hearer) -> Json:
    from verifier.check.main import check

    given: Any = task.request.get("property")
    where: Path | None = None
    if given is not None and given.get("vnnlib") is not None:
        where = task.out("in-property.vnnlib")
        where.write_text(str(given["vnnlib"]), encoding="utf-8")
    elif given is not None:
        where = task.out("in-property.json")
        where.write_text(property_of(given, model_of(task)).text, encoding="utf-8")
    found = check(
        path,
        {"": model},
        where,
        progress=lambda done, total: hear.progress(Progress(0.0, "check", done=done, total=total)),
    )
    return {
        "claim": found.verdict, "semantics": found.semantics, "nodes": found.nodes,
        "evidence": found.evidence, "seconds": found.seconds,
        "notes": [found.message] if found.message else [],
    }  # fmt: skip
