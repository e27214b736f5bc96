"""``lipschitz``: a proved Lipschitz constant of a network."""

from __future__ import annotations

import numpy as np

import sdp
from bounds.errors import BadInput
from sdp.region import Region
from verifier.lipschitz_certificate import bound_certificate
from workers.jobs.model import Answer, Json, Progress
from workers.kinds.common import facts_of, model_of, write_json
from workers.task import Ending, Hearer, Left, Task

SHARE = 0.8  # of the time limit for multipliers; the rest is for proving what they imply


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`."""
    asked, model = task.request, model_of(task)
    region = _region(asked.get("region"))
    hear.progress(Progress(0.0, "multipliers"))
    effort = sdp.Effort(seconds=SHARE * task.timeout_s, seed=int(task.options.get("seed", 0)))
    bound = sdp.lipschitz(
        model,
        norm=str(asked.get("norm", "2")),
        output_norm=asked.get("output_norm"),
        method=str(asked.get("method", "auto")),
        region=region,
        effort=effort,
    )
    result: Json = {
        "upper": bound.upper,
        "lower": bound.lower,
        "norm": bound.norm,
        "output_norm": bound.output_norm,
        "method": bound.method,
        "seconds": bound.seconds,
        "local": bound.local,
        "elements": bound.elements,
        "notes": list(bound.notes),
    }
    files: list[Left] = []
    if task.options.get("certificate", True):
        hear.progress(Progress(bound.seconds, "certificate"))
        try:
            text = bound_certificate(bound, model)
        except BadInput as error:  # some methods leave no multipliers: the bound stands without them
            result["notes"].append(str(error))
        else:
            task.out("certificate.json").write_text(text, encoding="utf-8")
            files.append(Left("certificate", "certificate.json", "application/json"))
    files.append(write_json(task, "report.json", {"model_sha256": model.sha256, **result}))
    facts = facts_of(task, model) if task.facts else None
    if facts is not None and region is None:
        facts["lipschitz"] = [{name: result[name] for name in ("norm", "output_norm", "upper", "method")}]
    return Ending(Answer.VERIFIED, result=result, files=tuple(files), facts=facts)


def _region(given: Json | None) -> Region | None:
    if given is None:
        return None
    try:
        return Region(np.array(given["lo"], dtype=np.float64), np.array(given["hi"], dtype=np.float64))
    except (KeyError, ValueError, TypeError):
        raise BadInput("region is no object with lists 'lo' and 'hi'; correct the request") from None
