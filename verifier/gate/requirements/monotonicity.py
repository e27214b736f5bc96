"""``kind = "monotonicity"``: raising one input alone never moves an output the wrong way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bounds.errors import BadInput
from bounds.io.combine import shifted
from bounds.io.onnx import load_bytes
from bounds.io.session import Session
from bounds.settings import key
from verifier.check.main import Model as Checked
from verifier.gate.prove import Ask, Loaded
from verifier.gate.report import Finding, Outcome
from verifier.gate.requirements.base import Kind, Stated
from verifier.gate.requirements.boxed import Boxed, check_box, concluded, region
from verifier.spec.relations import monotone_by
from verifier.verdict import Semantics, Witness

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk


@dataclass(frozen=True, slots=True)
class MonotonicitySettings(Boxed):
    """On the box, raising ``input`` alone moves ``output`` the wrong way by at most ``slack``."""

    input: int = key(0, "flat input that is raised", required=True, least=0)
    output: int = key(0, "flat output that is watched", least=0)
    direction: str = key("increasing", "how the output may move", choices=("increasing", "decreasing"))
    slack: Fraction = key(
        Fraction(0),
        "how far it may move the wrong way; 0 is seldom provable, as nothing moves at t = 0",
        least=0,
    )


def _check(config: GateConfig, stated: Stated) -> None:
    check_box(config, stated)
    if stated.settings.semantics != "real":
        raise config.fail(
            (*stated.key, "semantics"), 'monotonicity is proved over the reals; use semantics = "real"'
        )


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: MonotonicitySettings = stated.settings
    network = desk.network(s.model)
    graph = network.model.graph
    if s.input >= graph.input_size or s.output >= graph.output_size:
        raise BadInput(
            f"{s.id}: {network.path} has inputs 0 to {graph.input_size - 1} and outputs 0 to "
            f"{graph.output_size - 1}; correct input or output"
        )
    where = region(s, graph.input_size, network.path)
    pair = combined(network.name, network.path, shifted(network.model.onnx_bytes, s.input, network.path))
    prop = monotone_by(
        where, input_index=s.input, output_index=s.output, outputs=graph.output_size,
        increasing=s.direction == "increasing", slack=s.slack,
    )  # fmt: skip
    word = "lowers" if s.direction == "increasing" else "raises"
    by = f" by more than {float(s.slack):g}" if s.slack else ""
    required = f"raising input {s.input} alone never {word} output {s.output}{by} on the box"
    ask = Ask("monotonicity", prop, {"": pair}, Semantics.REAL)
    finding = concluded(desk, stated, [ask], required, texts=partial(_text, s))
    if finding.outcome is Outcome.VIOLATED and not _confirmed(s, network, finding):
        # the point was confirmed on the combined model, whose sum x + t may round; the network itself decides
        message = f"not decided whether {required}: a counterexample is lost when x + t is rounded"
        questions = tuple(
            replace(q, outcome=Outcome.INCONCLUSIVE, message=message) for q in finding.questions
        )
        return replace(
            finding, outcome=Outcome.INCONCLUSIVE, message=message, counterexamples=(), questions=questions
        )
    return finding


def combined(name: str, path: str, data: bytes) -> Loaded:
    """A combined model, as both programs read it."""
    return Loaded(name, path, load_bytes(data, path), Checked.of(data), made=True)


def _text(s: MonotonicitySettings, witness: Witness) -> str:
    n = len(witness.y) // 2
    a, b = float(witness.y[s.output]), float(witness.y[n + s.output])
    low = float(witness.x[s.input])
    high = float(witness.x[s.input] + witness.x[-1])
    moved = f"moves output {s.output} from {a:.6g} to {b:.6g}"
    return f"raising input {s.input} from {low:.9g} to {high:.9g} {moved}"


def _confirmed(s: MonotonicitySettings, network: Loaded, finding: Finding) -> bool:
    """Whether onnxruntime finds the same on the network itself, at two float32 points of the box."""
    port = network.model.graph.inputs[0]
    session = Session(network.model)
    dtype = np.dtype(port.dtype)
    inputs = np.array(finding.counterexamples[0].inputs)
    low = inputs[:-1].astype(dtype)
    high = low.copy()
    high[s.input] = dtype.type(low[s.input] + dtype.type(inputs[-1]))
    limit = s.upper[s.input if len(s.upper) > 1 else 0]
    if Fraction(float(high[s.input])) > limit or high[s.input] < low[s.input]:
        return False
    outputs = [
        np.concatenate([o.reshape(-1) for o in session.run(p.astype(np.float64))]) for p in (low, high)
    ]
    if not all(np.isfinite(o[s.output]) for o in outputs):
        return False
    values = [Fraction(float(o[s.output])) for o in outputs]
    fall = values[0] - values[1] if s.direction == "increasing" else values[1] - values[0]
    return fall > s.slack


KIND = Kind(MonotonicitySettings, _decide, check=_check)
