"""What happened, in sentences: verdicts, reasons, and what to do next. Words only, no markup."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from service.pages.svg import number
from workers.jobs.model import Answer, Job, Kind, State

KINDS: Final = {
    Kind.VERIFY: "Property",
    Kind.SWEEP: "Certified accuracy",
    Kind.LIPSCHITZ: "Lipschitz constant",
    Kind.TRAIN: "Training",
    Kind.CHECK: "Certificate check",
    Kind.SHARD: "Part of a search",
}
NORMS: Final = {"inf": "∞-norm", "2": "2-norm", "1": "1-norm"}

# how a job is marked: a class of the style sheet and a word, never the colour alone
MARKS: Final = {
    State.QUEUED: ("queued", "Waiting"),
    State.RUNNING: ("running", "Running"),
    State.FAILED: ("failed", "Failed"),
    State.CANCELLED: ("cancelled", "Cancelled"),
    Answer.VERIFIED: ("verified", "Verified"),
    Answer.FALSIFIED: ("falsified", "Falsified"),
    Answer.UNKNOWN: ("unknown", "Unknown"),
}

# (kind, answer) -> headline, and what exactly was found
_FOUND: Final[dict[tuple[Kind, Answer | None], tuple[str, str]]] = {
    (Kind.VERIFY, Answer.VERIFIED): (
        "Proved",
        "No input of the region reaches the outputs that the property forbids.",
    ),
    (Kind.VERIFY, Answer.FALSIFIED): (
        "There is a counterexample",
        "An input of the region violates the property. It was confirmed by running the original network.",
    ),
    (Kind.VERIFY, Answer.UNKNOWN): ("Not decided", "Neither a proof nor a counterexample was found."),
    (Kind.SWEEP, Answer.VERIFIED): (
        "Every sample is certified",
        "At every radius, every sample was proved to keep its class.",
    ),
    (Kind.SWEEP, Answer.FALSIFIED): (
        "Some samples can be changed",
        "For some samples an input within the radius gets another class; the table counts them.",
    ),
    (Kind.SWEEP, Answer.UNKNOWN): (
        "Some samples are open",
        "No sample was changed, but not every one was proved either.",
    ),
    (Kind.LIPSCHITZ, Answer.VERIFIED): ("Bounded", "The bound is proved, whatever the inputs are."),
    (Kind.TRAIN, Answer.VERIFIED): ("Trained", "The network comes with a proved Lipschitz constant."),
    (Kind.TRAIN, Answer.UNKNOWN): ("Trained", "Nothing was proved about the network."),
    (Kind.CHECK, Answer.VERIFIED): (
        "The certificate holds",
        "An independent checker derived every step again.",
    ),
    (Kind.CHECK, Answer.UNKNOWN): ("The certificate proves nothing", "The checker rejected it."),
}

# reasons of undecided and failed jobs -> what to do next
_NEXT: Final = {
    "timeout": "The time limit was reached. Ask again with more time.",
    "domains": "The limit of subproblems was reached. Ask again with a larger one.",
    "memory": "The memory limit was reached. Ask again with more memory.",
    "unbounded": "Some inputs have no bounds, so only counterexamples were looked for. Bound every input.",
    "rounding": "The float32 rounding of some operators is not modelled. Ask about real arithmetic.",
    "precision": "What is left is too small to be split in floating point.",
    "open-samples": "Ask again with more time for each sample.",
    "out-of-memory": "Ask again with more memory, or about a smaller network.",
    "worker-lost": "Its workers died. Try again; if it happens again, give it more memory.",
    "model-invalid": "Export the network again, and check that the file is complete.",
    "model-unsupported": "The help page lists the operators that are understood.",
    "limit-exceeded": "Use a smaller network or property, or ask the operator to raise the limit.",
    "property-invalid": "Correct the property and submit it again.",
    "property-mismatch": "Check that the property has as many inputs and outputs as the network.",
    "bad-input": "Correct the request and submit it again.",
    "certificate-rejected": "Make sure that network, property and certificate belong together.",
    "certificate-invalid": "The file is damaged or no certificate; fetch it again.",
    "internal-error": "This is a defect. Please report it with the job's id.",
}
_SAFE_COMMENT: Final = re.compile(r"^\s*;+\s*(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mark:
    """A class and a word."""

    kind: str
    word: str


def mark(job: Job) -> Mark:
    """How the job stands."""
    if job.cancel_requested and not job.state.final:
        return Mark("cancelled", "Stopping")
    key = job.answer if job.state is State.FINISHED and job.answer is not None else job.state
    return Mark(*MARKS.get(key, ("unknown", "Finished")))


def headline(job: Job) -> str:
    """The verdict, in a few words."""
    match job.state:
        case State.QUEUED:
            return "Waiting for a worker"
        case State.RUNNING:
            return "Stopping…" if job.cancel_requested else "At work"
        case State.FAILED:
            return "This did not work"
        case State.CANCELLED:
            return "Cancelled"
        case _:
            pass
    bound = job.result.get("upper")
    if job.kind is Kind.LIPSCHITZ and isinstance(bound, int | float):
        return f"At most {number(float(bound))}"
    if job.kind is Kind.VERIFY and job.answer is Answer.VERIFIED and robustness(job):
        return "Proved robust"
    return _FOUND.get((job.kind, job.answer), ("Finished", ""))[0]


def explanation(job: Job) -> str:
    """The verdict, exactly."""
    match job.state:
        case State.QUEUED:
            return f"It is in the queue “{job.queue}” and starts as soon as a worker is free."
        case State.RUNNING:
            return "This page follows the search."
        case State.FAILED:
            return job.error or "No reason was recorded."
        case State.CANCELLED:
            return "It was stopped before it ended; nothing was decided."
        case _:
            pass
    asked = robustness(job)
    if asked and job.answer is Answer.VERIFIED:
        return f"Every input within {_ball(asked)} of the given one gets class {asked['label']}."
    if asked and job.answer is Answer.FALSIFIED:
        return (
            f"An input within {_ball(asked)} of the given one gets another class than {asked['label']}. "
            "It was confirmed by running the original network."
        )
    if job.kind is Kind.LIPSCHITZ and job.answer is Answer.VERIFIED:
        norm = NORMS.get(str(job.result.get("norm")), "norm")
        return f"Outputs differ by at most this many times the difference of the inputs ({norm})."
    text = _FOUND.get((job.kind, job.answer), ("", ""))[1]
    return f"{text} {job.error}".strip() if job.error else text


def meaning(job: Job) -> str:
    """About which arithmetic a verdict speaks."""
    if job.kind not in (Kind.VERIFY, Kind.SWEEP) or job.answer is not Answer.VERIFIED:
        return ""
    options: Any = job.request.get("options") or {}
    if options.get("semantics") == "float32":
        return "This holds for the network as float32 arithmetic computes it."
    return "This holds for the network over the real numbers."


def next_steps(job: Job) -> tuple[str, ...]:
    """What to do now, where the answer is not the end of it."""
    advice = job.result.get("advice")
    told = [str(a) for a in advice[:6]] if isinstance(advice, list) else []
    # advice for whoever sits at the command line says nothing to a reader of pages
    told = [a[:1].upper() + a[1:] for a in told if "--" not in a]
    word = _NEXT.get(job.reason.replace("_", "-"), "")
    if job.state is State.FAILED or job.answer is Answer.UNKNOWN:
        return tuple(dict.fromkeys(w for w in (word, *told) if w))
    return tuple(told)


def robustness(job: Job) -> dict[str, Any]:
    """The built question of a job; empty for others."""
    prop: Any = job.request.get("property")
    found: Any = prop.get("robustness") if isinstance(prop, dict) else None
    return found if isinstance(found, dict) and "label" in found else {}


def question(job: Job) -> str:
    """What was asked, in a line."""
    request: Any = job.request
    if asked := robustness(job):
        return f"Class {asked['label']} within {_ball(asked)}"
    match job.kind:
        case Kind.VERIFY | Kind.SHARD:
            prop: Any = request.get("property") or {}
            return vnnlib_title(str(prop.get("vnnlib") or ""))
        case Kind.SWEEP:
            radii = request.get("radii") or []
            shown = ", ".join(str(r) for r in radii[:4]) + ("…" if len(radii) > 4 else "")
            return f"Certified accuracy at {shown} ({NORMS.get(str(request.get('norm')), 'norm')})"
        case Kind.LIPSCHITZ:
            return f"Lipschitz constant, {NORMS.get(str(request.get('norm')), 'norm')}"
        case Kind.TRAIN:
            return "Train a certifiably robust network"
        case Kind.CHECK:
            return "Check a certificate"


def vnnlib_title(text: str) -> str:
    """The first remark of a property's text, or its size."""
    remark = _SAFE_COMMENT.search(text[:2000])
    if remark:
        words = remark[1].rstrip(".")
        return words if len(words) <= 90 else words[:89] + "…"
    head = text[: 1 << 20]
    inputs, outputs = head.count("declare-const X_"), head.count("declare-const Y_")
    return f"VNN-LIB, {inputs} inputs and {outputs} outputs" if inputs else "VNN-LIB property"


def _ball(asked: dict[str, Any]) -> str:
    return f"{asked['radius']} ({NORMS.get(str(asked.get('norm', 'inf')), 'norm')})"


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 0.001:
        return "under 1 ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(seconds: float) -> str:
    """A time for people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(value: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def ago(moment: float | None) -> str:
    """How long ago, for people; the exact time stands beside it."""
    if moment is None:
        return ""
    past = time.time() - moment
    for most, divisor, word in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if past < most:
            return "just now" if past < 5 else f"{past / divisor:.0f} {word} ago"
    return f"{past / 86400:.0f} days ago"
