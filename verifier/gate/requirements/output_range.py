"""``kind = "output-range"``: on a box of inputs, outputs stay within limits."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from bounds.settings import key
from verifier.gate.prove import Ask
from verifier.gate.report import Finding
from verifier.gate.requirements.base import Kind, Stated
from verifier.gate.requirements.boxed import Boxed, check_box, concluded, region
from verifier.spec.output_range import output_range
from verifier.verdict import Semantics

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk


@dataclass(frozen=True, slots=True)
class OutputRangeSettings(Boxed):
    """On every input of the box, outputs are at least ``low`` and at most ``high`` (limits included)."""

    outputs: tuple[int, ...] = key((), "flat outputs that are limited; empty: all", least=0, single=True)
    low: Fraction | None = key(None, "least output allowed; not given: no limit")
    high: Fraction | None = key(None, "largest output allowed; not given: no limit")


def _check(config: GateConfig, stated: Stated) -> None:
    check_box(config, stated)
    s: OutputRangeSettings = stated.settings
    if s.low is None and s.high is None:
        raise config.fail(stated.key, f"requirement '{s.id}' has neither low nor high; give at least one")
    if s.low is not None and s.high is not None and s.low > s.high:
        raise config.fail((*stated.key, "low"), "'low' is above 'high', which no output satisfies; swap them")


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: OutputRangeSettings = stated.settings
    network = desk.network(s.model)
    graph = network.model.graph
    outputs = s.outputs or tuple(range(graph.output_size))
    if max(outputs) >= graph.output_size:
        raise BadInput(
            f"{s.id}: {network.path} has no output {max(outputs)}; its last is {graph.output_size - 1}"
        )
    where = region(s, graph.input_size, network.path)
    prop = output_range(where, dict.fromkeys(outputs, (s.low, s.high)), outputs=graph.output_size)
    sides = [
        *([] if s.low is None else [f"at least {float(s.low):g}"]),
        *([] if s.high is None else [f"at most {float(s.high):g}"]),
    ]
    which = f"outputs {', '.join(map(str, outputs))}" if s.outputs else "all outputs"
    ask = Ask("output range", prop, {"": network}, Semantics(s.semantics))
    return concluded(desk, stated, [ask], f"{which} are {' and '.join(sides)} on the box")


KIND = Kind(OutputRangeSettings, _decide, check=_check)
