"""Networks of every common architecture, from PyTorch to a verdict with a checked certificate.

Each is exported, a small box is put around a seeded point, and onnxruntime is asked what the outputs do
there. Limits with some slack around what was seen must be proved; a limit that a sample breaks must be
refuted by a witness that breaks it in onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

WHY = "PyTorch is not installed; ./scripts/test installs it (dependency group `train`)"
pytest.importorskip("torch", reason=WHY)
pytest.importorskip("onnxscript", reason=WHY)

import arch_convolutional  # noqa: E402, F401
import arch_elementwise  # noqa: E402, F401
import arch_sequences  # noqa: E402, F401
import arch_structure  # noqa: E402, F401
from arch_catalogue import ARCHITECTURES, Architecture  # noqa: E402

from bounds.errors import ModelUnsupported  # noqa: E402
from verifier import Options, verify  # noqa: E402
from verifier.check.main import check  # noqa: E402
from verifier.report.model import Report  # noqa: E402
from verifier.spec.output_range import output_range  # noqa: E402
from verifier.spec.region import Region, box  # noqa: E402
from verifier.verdict import Status  # noqa: E402

pytestmark = pytest.mark.torch

Array = np.ndarray[Any, Any]
SAMPLES = 200
DOMAINS = 100

# architecture -> why `verify check` cannot re-prove its certificates yet: what its refusal says
EXPECTED_UNCHECKED: dict[str, str] = {}

EVERY = os.environ.get("SUREBOUND_EXPORTS", "") == "all"
ON_REQUEST = pytest.mark.skipif(not EVERY, reason="one exporter is enough; SUREBOUND_EXPORTS=all tries all")
CASES = [
    pytest.param(a, how, id=f"{a.name}-{how}", marks=marks)
    for a in ARCHITECTURES.values()
    for names, marks in ((a.exports, ()), (a.extra, ON_REQUEST))
    for how in names
]


@dataclass(frozen=True)
class Exported:
    """An exported network and what it does on its box.

    Attributes:
        path: the file.
        region: the box.
        outputs: ``SAMPLES m``, flat outputs (of all ports) at sampled inputs.
        session: for replay.
    """

    path: Path
    region: Region
    outputs: Array
    session: ort.InferenceSession

    def replay(self, x: Array) -> Array:
        """Flat outputs at a flat input."""
        feeds, start = {}, 0
        for port in self.session.get_inputs():
            size = int(np.prod(port.shape, dtype=int))
            feeds[port.name] = x[start : start + size].astype(np.float32).reshape(port.shape)
            start += size
        return np.concatenate([np.asarray(v, np.float64).ravel() for v in self.session.run(None, feeds)])


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture, str], Exported]:
    """Exports once per session."""
    folder = tmp_path_factory.mktemp("architectures")
    done: dict[tuple[str, str], Exported] = {}

    def get(architecture: Architecture, how: str) -> Exported:
        key = (architecture.name, how)
        if key not in done:
            path = folder / f"{architecture.name}.{how}.onnx"
            architecture.export(how, path)
            done[key] = observe(architecture, path)
        return done[key]

    return get


def observe(architecture: Architecture, path: Path) -> Exported:
    """Samples the box, corners first."""
    rng = np.random.default_rng(0)
    centre = np.concatenate([t.numpy().ravel() for t in architecture.example()])
    signs = np.where(rng.random((SAMPLES, centre.size)) < 0.5, -1.0, 1.0)
    signs[SAMPLES // 2 :] *= rng.random((SAMPLES - SAMPLES // 2, centre.size))
    points = (centre + architecture.radius * signs).astype(np.float32)
    low = np.nextafter((centre - architecture.radius).astype(np.float32), np.float32(-np.inf))
    high = np.nextafter((centre + architecture.radius).astype(np.float32), np.float32(np.inf))
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    made = Exported(path, box(low.tolist(), high.tolist()), np.empty(0), session)
    return Exported(path, made.region, np.stack([made.replay(x) for x in points]), session)


def ask(net: Exported, limits: dict[int, tuple[float | None, float | None]], certificate: Path) -> Report:
    prop = output_range(net.region, limits, outputs=net.outputs.shape[1])
    return verify(net.path, prop, options=Options(max_domains=DOMAINS), certificate=certificate)


@pytest.mark.parametrize(("architecture", "how"), CASES)
def test_small_properties_are_decided(
    architecture: Architecture, how: str, exported: Callable[..., Exported], tmp_path: Path
) -> None:
    net = exported(architecture, how)
    low, high = net.outputs.min(0), net.outputs.max(0)
    slack = architecture.slack * (high - low) + 0.02 * (1 + np.abs(high))
    holds = ask(
        net,
        {j: (float(low[j] - slack[j]), float(high[j] + slack[j])) for j in range(len(low))},
        tmp_path / "holds.sbcert",
    )
    assert holds.status is Status.UNSAT, (holds.reason, holds.lower_bound, holds.stats)
    accept(architecture, net, tmp_path / "holds.sbcert", Status.UNSAT)

    j = int((high - low).argmax())
    limit = float((low[j] + high[j]) / 2) if high[j] > low[j] else float(low[j]) - 0.01
    broken = ask(net, {j: (None, limit)}, tmp_path / "broken.sbcert")
    assert broken.status is Status.SAT
    assert broken.witness is not None
    assert net.replay(np.array([float(v) for v in broken.witness.x]))[j] > limit
    accept(architecture, net, tmp_path / "broken.sbcert", Status.SAT)


def accept(architecture: Architecture, net: Exported, certificate: Path, verdict: Status) -> None:
    """The independent checker proves the certificate's claim, or refuses as the table says."""
    reason = EXPECTED_UNCHECKED.get(architecture.name, "")
    if reason and verdict is Status.UNSAT:
        with pytest.raises(ModelUnsupported, match=reason):
            check(certificate, {"": net.path}, None)
        return
    assert check(certificate, {"": net.path}, None).verdict == verdict.value


def test_the_list_of_unchecked_architectures_names_architectures() -> None:
    assert set(EXPECTED_UNCHECKED) <= set(ARCHITECTURES)
