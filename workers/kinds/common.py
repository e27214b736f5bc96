"""What the kinds share: loaded models, properties, files."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from bounds.errors import BadInput
from bounds.io.limits import Limits, read_bytes
from bounds.io.onnx import Model, load_bytes
from verifier.spec.model import Property
from verifier.verdict import Semantics
from workers.jobs.model import Json
from workers.task import Left, Task

GZIP = b"\x1f\x8b"
KEPT = 4  # models that stay loaded in a child
NORMS = {"1": "l1", "2": "l2", "inf": "linf"}
_MODELS: OrderedDict[str, Model] = OrderedDict()


def model_of(task: Task) -> Model:
    """The task's network, loaded; the last few stay in memory. Tensors in other files are refused."""
    digest = task.digests["model"]
    if digest not in _MODELS:
        path = named(task, "model", ".onnx")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:  # a verdict is about the network of that digest and no other
            raise BadInput(f"the file of model {digest} is damaged; upload it again")
        _MODELS[digest] = load_bytes(read_bytes(path, Limits()), "the model", directory=None)
        while len(_MODELS) > KEPT:
            _MODELS.popitem(last=False)
    _MODELS.move_to_end(digest)
    return _MODELS[digest]


def named(task: Task, name: str, suffix: str) -> Path:
    """A file of the task under a name with the ending that readers go by (``.gz`` where it is compressed)."""
    source = Path(file_of(task, name))
    with source.open("rb") as file:
        packed = file.read(2) == GZIP
    place = task.out(f"in-{name}{suffix}{'.gz' if packed else ''}")
    if not place.exists():
        place.symlink_to(source.resolve())
    return place


def file_of(task: Task, name: str) -> str:
    """Where a file of the task is. Raises: BadInput."""
    if name not in task.files:
        raise BadInput(f"the request names no file '{name}'; give its digest")
    return task.files[name]


def property_of(given: Json | None, model: Model) -> Property:
    """The property of a request: VNN-LIB text, or built from a robustness question."""
    from verifier.spec.load import loads

    if given is None:
        raise BadInput("the request has no property; give 'vnnlib' or 'robustness'")
    text = given.get("vnnlib")
    if text is not None:
        return loads(str(text), source="the property", open_inputs=True)
    return robustness_of(given["robustness"], model)


def robustness_of(asked: Json, model: Model) -> Property:
    """No input in a ball around one changes the decision."""
    from verifier.spec.region import around
    from verifier.spec.robustness import local_robustness

    point: Sequence[float] = asked.get("input") or asked.get("image") or ()
    if len(point) != model.graph.input_size:
        raise BadInput(f"the input has {len(point)} numbers, the network takes {model.graph.input_size}")
    clip = asked.get("clip")
    region = around(
        [float(v) for v in point],
        exact(asked["radius"]),
        norm=NORMS[str(asked.get("norm", "inf"))],
        clip=None if clip is None else (exact(clip[0]), exact(clip[1])),
    )
    return local_robustness(region, label=int(asked["label"]), outputs=model.graph.output_size)


def exact(value: float | str) -> Fraction:
    """A number, or a decimal or quotient in text, exactly."""
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise BadInput(f"'{value}' is no number; give a decimal or a quotient such as 2/255") from None


def semantics_of(task: Task) -> Semantics:
    """What a proof is to be about."""
    return Semantics(str(task.options.get("semantics", Semantics.REAL.value)))


def write_json(task: Task, name: str, document: Any) -> Left:
    """A result as JSON."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    task.out(name).write_text(text, encoding="utf-8")
    return Left(name, name, "application/json")


def facts_of(task: Task, model: Model) -> Json:
    """What a network is made of: operators, shapes, neurons, and its graph where it can still be drawn."""
    from verifier.cli.inspect import gather

    facts = gather(named(task, "model", ".onnx")) | {"model": model.sha256}
    nodes = model.graph.nodes
    if len(nodes) <= 400:
        facts["graph"] = [
            {"id": n.id, "op": n.op.value, "inputs": list(n.inputs), "shape": list(n.shape), "name": n.source}
            for n in nodes
        ]
    return facts
