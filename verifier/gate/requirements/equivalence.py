"""``kind = "equivalence"``: two networks give nearly the same outputs (after quantisation, say)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from bounds.io.combine import side_by_side
from bounds.settings import key, near
from verifier.gate.prove import Ask
from verifier.gate.report import Finding
from verifier.gate.requirements.base import SEMANTICS, Common, Kind, Stated
from verifier.gate.requirements.boxed import Boxed, check_box, concluded, region
from verifier.gate.requirements.monotonicity import combined
from verifier.gate.samples import Choice
from verifier.spec.relations import close
from verifier.verdict import Semantics, Witness

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk


@dataclass(frozen=True, slots=True)
class EquivalenceSettings(Common):
    """No output of ``model`` and ``other`` differs by more than ``epsilon``, on a box or around samples."""

    model: str = key("", "name of a network", required=True)
    other: str = key("", "name of the network that it is compared with", required=True)
    epsilon: Fraction = key(Fraction(0), "largest difference of an output allowed", required=True, least=0)
    lower: tuple[Fraction, ...] = key((), "least input: one number, or one per flat input", single=True)
    upper: tuple[Fraction, ...] = key((), "largest input: one number, or one per flat input", single=True)
    data: str = key("", "instead of a box: name of samples")
    radius: Fraction = key(
        Fraction(0), "of the balls (norm inf) around samples, as in certified-accuracy", least=0
    )
    samples: int | None = key(None, "how many samples; not given: all", least=1)
    seed: int | None = key(None, "of choosing them; not given: the file's", least=0)
    semantics: str = key(
        "real", "what is proved is about: the reals, or float32 arithmetic", choices=SEMANTICS
    )


def _check(config: GateConfig, stated: Stated) -> None:
    s: EquivalenceSettings = stated.settings
    if bool(s.data) == bool(s.lower or s.upper):
        raise config.fail(
            stated.key, f"requirement '{s.id}' needs either lower and upper, or data and radius"
        )
    if s.data:
        if s.data not in config.data:
            raise config.fail(
                (*stated.key, "data"), f"there is no [data.{s.data}]; {near(s.data, config.data)}"
            )
        if not s.radius:
            raise config.fail(stated.key, f"requirement '{s.id}' lacks the key 'radius'; give one above 0")
    else:
        check_box(config, stated)


def _decide(desk: Desk, stated: Stated) -> Finding:
    s: EquivalenceSettings = stated.settings
    first, second = desk.network(s.model), desk.network(s.other)
    data = side_by_side(first.model.onnx_bytes, second.model.onnx_bytes, (first.path, second.path))
    pair = combined(first.name, first.path, data)
    outputs = first.model.graph.output_size
    required = f"{first.path} and {second.path} differ by at most {float(s.epsilon):g} in every output "
    if s.data:
        seed = desk.config.top.seed if s.seed is None else s.seed
        samples = desk.samples(s.data, first, Choice(s.samples, seed, stratified=True))
        regions = [(f"sample {n}", samples.region(i, s.radius, "inf")) for i, n in enumerate(samples.names)]
        required += f"within {float(s.radius):g} of {len(regions)} samples"
    else:
        box = Boxed(s.id, s.kind, s.about, s.model, s.lower, s.upper)
        regions = [("equivalence", region(box, first.model.graph.input_size, first.path))]
        required += "on the box"
    asks = [
        Ask(name, close(where, s.epsilon, outputs=outputs), {"": pair}, Semantics(s.semantics))
        for name, where in regions
    ]
    return concluded(desk, stated, asks, required, texts=_text)


def _text(witness: Witness) -> str:
    half = len(witness.y) // 2
    j = max(range(half), key=lambda i: abs(witness.y[i] - witness.y[half + i]))
    first, second = float(witness.y[j]), float(witness.y[half + j])
    return f"output {j} is {first:.6g} in one network and {second:.6g} in the other"


KIND = Kind(EquivalenceSettings, _decide, models=("model", "other"), check=_check)
