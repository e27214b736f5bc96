"""Clean and certified accuracy of a classifier: cheap proofs for all samples, then search for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bounds.errors import BadInput, ModelUnsupported
from bounds.graph import Array
from bounds.io.onnx import Model, load
from verifier.query import Options
from verifier.robustness.data import Samples
from verifier.robustness.points import Attack, Clip, plans, right_and_wrong, scores
from verifier.robustness.result import By, Radius, RobustnessReport, Table
from verifier.robustness.sweep import Sweep
from verifier.verdict import Semantics
from verifier.version import VERSION

if TYPE_CHECKING:
    from sdp.radius import Local

METHODS = ("auto", "bounds", "lipschitz")
NORMS = {"1": "l1", "2": "l2", "inf": "linf"}
LOCAL_ELEMENTS = 400  # up to which `auto` computes local constants (for balls in the 2-norm)
PRECHECK_SHARE, PRECHECK_MOST = 0.1, 60.0  # of the time limit, and seconds, that `auto` gives to constants

Watch = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RobustnessOptions:
    """Options.

    Attributes:
        norm: "1", "2" or "inf".
        method: "auto", "bounds" or "lipschitz".
        clip: valid range of every input; balls are cut to it.
        semantics: what is proved is a statement about; constants speak about the reals only.
        timeout: seconds in all, None for no limit.
        sample_timeout: seconds of search for one sample and radius.
        attack: look for points of another class.
        local: compute local constants (slow for large networks).
        certificates: a folder for what the search decides, and for local radii, one file each.
        seed: of every random choice.
    """

    norm: str = "2"
    method: str = "auto"
    clip: Clip = None
    semantics: Semantics = Semantics.REAL
    timeout: float | None = None
    sample_timeout: float = 10.0
    attack: bool = True
    local: bool | None = None
    certificates: Path | None = None
    seed: int = 0


def robustness(
    model: str | Path | Model,
    samples: Samples,
    radii: Sequence[str | float | Fraction],
    *,
    options: RobustnessOptions | None = None,
    watch: Watch = lambda _: None,
) -> RobustnessReport:
    """Measures a classifier (one score per output; the largest wins, ties lose).

    Args:
        model: an ONNX file, or a loaded one.
        samples: labelled points (:func:`verifier.robustness.data.load_samples`).
        radii: of the balls around each, as numbers or text ("2/255").
        options: see there.
        watch: told what is going on, in sentences.

    Raises:
        SureboundError: the inputs cannot be used.
    """
    options = options or RobustnessOptions()
    loaded = model if isinstance(model, Model) else load(model)
    balls = read_radii(radii)
    _check(loaded, samples, options)
    return _Run(loaded, samples, balls, options, watch).report()


def read_radii(radii: Sequence[str | float | Fraction]) -> tuple[Radius, ...]:
    """Exact radii, ascending; text may be a decimal or a quotient."""
    found: dict[Fraction, Radius] = {}
    for given in radii:
        text = str(given).strip()
        try:
            exact = given if isinstance(given, Fraction) else Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise BadInput(
                f"radius '{text}' is no number; give decimals or quotients such as 0.1 or 2/255"
            ) from None
        if exact <= 0:
            raise BadInput(f"radius '{text}' is not above 0; clean accuracy needs no radius")
        if exact > 10**30 or exact < Fraction(1, 10**30):
            raise BadInput(f"radius '{text}' is too large or small; give one between 1e-30 and 1e30")
        found[exact] = Radius(text, exact)
    if not found:
        raise BadInput("no radius is given; name some with --radii 0.1,0.2")
    return tuple(found[exact] for exact in sorted(found))


def _check(model: Model, samples: Samples, options: RobustnessOptions) -> None:
    graph = model.graph
    if options.norm not in NORMS:
        raise BadInput(f"unknown norm '{options.norm}'; choose one of {', '.join(NORMS)}")
    if options.method not in METHODS:
        raise BadInput(f"unknown method '{options.method}'; choose one of {', '.join(METHODS)}")
    if options.method == "lipschitz" and options.semantics is not Semantics.REAL:
        raise BadInput(
            "--method lipschitz proves statements over the reals; use --semantics real or another method"
        )
    if not len(samples):
        raise BadInput(f"{samples.source}: no samples were chosen")
    if graph.output_size < 2:
        raise BadInput(f"{model.path}: has {graph.output_size} output; a classifier has at least two")
    if samples.x.shape[1] != graph.input_size:
        raise BadInput(
            f"{samples.source}: samples have {samples.x.shape[1]} numbers, "
            f"{model.path} takes {graph.input_size}; check the two files"
        )
    if not ((samples.y >= 0) & (samples.y < graph.output_size)).all():
        raise BadInput(
            f"{samples.source}: a label is not from 0 to {graph.output_size - 1}; check the labels"
        )
    if options.clip is not None:
        low, high = options.clip
        if low >= high:
            raise BadInput(f"--clip {float(low):g},{float(high):g} is empty; give the smaller number first")
        least, most = float(samples.x.min()), float(samples.x.max())
        if Fraction(least) < low or Fraction(most) > high:
            raise BadInput(
                f"{samples.source}: numbers reach from {least:g} to {most:g}, outside --clip "
                f"{float(low):g},{float(high):g}; scale the data (--scale) or change the range"
            )


@dataclass(slots=True)
class _Run:
    model: Model
    samples: Samples
    radii: tuple[Radius, ...]
    options: RobustnessOptions
    watch: Watch
    start: float = field(default_factory=time.monotonic)
    phases: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])
    files: list[str] = field(default_factory=list[str])

    def report(self) -> RobustnessReport:
        o, count = self.options, len(self.samples)
        table = Table.empty(count, len(self.radii))
        everywhere, local = np.full(count, np.nan), np.full(count, np.nan)
        self.notes += self.samples.notes
        float32, float64 = plans(self.model.graph, network=o.semantics is Semantics.FLOAT32)
        low, high = self.timed("clean", lambda: scores(float64, self.samples.x))
        table.correct, table.wrong = right_and_wrong(low, high, self.samples.y)
        for i in np.flatnonzero(table.wrong):
            table.refute(int(i), 0, By.CLEAN)
        if self.wants_constants:
            self.timed("lipschitz", lambda: self.constants(table, everywhere, low, high))
        if o.attack:
            attack = Attack(float32, float64, o.norm, o.clip, o.seed)
            self.timed("attack", lambda: self.attack(table, attack))
        if self.wants_constants and self.wants_local:
            self.timed("local", lambda: self.local(table, everywhere, local, low, high))
        if o.method != "lipschitz":
            sweep = Sweep(self.model.graph, float32, o.norm, o.clip, network=o.semantics is Semantics.FLOAT32)
            self.timed("bounds", lambda: self.sweep(table, sweep))
            self.timed("search", lambda: self.search(table))
        return RobustnessReport(
            self.model.path, self.samples.source, self.model.sha256, o.norm, o.method, o.semantics.value,
            self.radii, self.samples.y, self.samples.index, table, everywhere, local, self.elapsed,
            self.phases, tuple(self.notes), tuple(self.files), o.seed, VERSION,
        )  # fmt: skip

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        """Seconds left."""
        return float("inf") if self.options.timeout is None else self.options.timeout - self.elapsed

    @property
    def wants_constants(self) -> bool:
        """Whether to compute Lipschitz constants. By default not for balls of the infinity norm: those are
        boxes, of which bounds prove a thousand as one block in less time than constants take."""
        o = self.options
        if o.semantics is not Semantics.REAL or o.method == "bounds":
            return False
        return o.method == "lipschitz" or o.norm != "inf" or bool(o.local)

    @property
    def wants_local(self) -> bool:
        """Whether to compute local constants: by default where bounds cannot prove as much."""
        if self.options.local is not None:
            return self.options.local
        graph = self.model.graph
        small = sum(n.size for n in (*graph.relus, *graph.scalars)) <= LOCAL_ELEMENTS
        return self.options.method == "lipschitz" or (self.options.norm == "2" and small)

    def stop(self) -> bool:
        """Whether time is up."""
        return self.left <= 0

    def timed(self, name: str, work: Callable[[], T]) -> T:
        """Books the time of one phase."""
        before = time.monotonic()
        self.watch(name)
        result = work()
        self.phases[name] = time.monotonic() - before
        return result

    def constants(self, table: Table, everywhere: Array, low: Array, high: Array) -> None:
        """Radii from global constants."""
        from sdp.api import Effort
        from sdp.radius import margins_at, pair_constants

        o = self.options
        seconds = 120.0 if o.method == "lipschitz" else PRECHECK_MOST
        if o.timeout is not None:
            seconds = min(seconds, o.timeout * (0.5 if o.method == "lipschitz" else PRECHECK_SHARE))
        try:
            found = pair_constants(
                self.model.graph, norm=o.norm, effort=Effort(seconds=seconds, sampling=None, seed=o.seed)
            )
        except ModelUnsupported as error:
            self.notes.append(f"no global Lipschitz constant: {error}")
            return
        self.notes.append(f"Lipschitz constants by {found.method}")
        for i in np.flatnonzero(table.correct):
            label = int(self.samples.y[i])
            radii = found.radii(label, margins_at(low[i], high[i], label))
            everywhere[i] = radii.min()
            self.credit(table, int(i), float(everywhere[i]), By.GLOBAL)

    def credit(self, table: Table, sample: int, radius: float, by: By) -> None:
        """Marks the radii that a proved one covers."""
        covered = [k for k, r in enumerate(self.radii) if r.above <= radius]
        if covered:
            table.prove(sample, covered[-1], by)

    def local(self, table: Table, everywhere: Array, local: Array, low: Array, high: Array) -> None:
        """Radii from local constants, for samples that have open radii."""
        from sdp.api import Effort
        from sdp.radius import local_radius, margins_at

        o = self.options
        effort = Effort(seconds=o.sample_timeout, sampling=None, seed=o.seed)
        every = o.method == "lipschitz"
        for i in np.flatnonzero(table.correct if every else table.open.any(axis=1)):
            if self.stop():
                return
            # nothing above the largest open radius is of use
            limit = np.inf if every else self.radii[int(np.flatnonzero(table.open[i])[-1])].above
            label, known = int(self.samples.y[i]), float(np.nan_to_num(everywhere[i]))
            found = local_radius(
                self.model.graph, self.samples.x[i], label, margins_at(low[i], high[i], label), norm=o.norm,
                start=known, limit=limit, effort=effort, should_stop=self.stop,
            )  # fmt: skip
            local[i] = max(found.radius, known)
            if o.certificates is not None and found.radius > 0:
                self.write_radius(int(i), found)
            self.credit(table, int(i), float(found.radius), By.LOCAL)

    def write_radius(self, sample: int, found: Local) -> None:
        """The certificate of a local radius."""
        from verifier.lipschitz_certificate import radius_certificate

        assert self.options.certificates is not None
        path = self.options.certificates / f"{self.samples.index[sample]}-radius.json"
        try:
            path.write_text(radius_certificate(found, self.model), encoding="utf-8")
        except BadInput as error:
            self.notes.append(f"sample {self.samples.index[sample]}: {error}")
            return
        self.files.append(str(path))

    def attack(self, table: Table, attack: Attack) -> None:
        """Points of another class, smallest radii first."""
        for k, radius in enumerate(self.radii):
            if self.stop():
                return
            mine = np.flatnonzero(table.open[:, k])
            broken = attack.broken(self.samples.x[mine], self.samples.y[mine], radius.exact, self.stop)
            for i in mine[broken]:
                table.refute(int(i), k, By.ATTACK)

    def sweep(self, table: Table, sweep: Sweep) -> None:
        """Bounds without splitting, largest radii first: what they prove holds for smaller ones."""
        for k in reversed(range(len(self.radii))):
            mine = np.flatnonzero(table.open[:, k])
            if not len(mine) or self.stop():
                continue
            proved = sweep.proved(self.samples.x[mine], self.samples.y[mine], self.radii[k], self.stop)
            for i in mine[proved]:
                table.prove(int(i), k, By.BOUNDS)

    def search(self, table: Table) -> None:
        """Branch and bound for what is open, smallest radii first."""
        for k in range(len(self.radii)):
            for i in np.flatnonzero(table.open[:, k]):
                if self.left < 0.05:
                    self.notes.append("the time limit was reached; raise --timeout")
                    return
                self._one(table, int(i), k)

    def _one(self, table: Table, sample: int, k: int) -> None:
        from verifier.api import verify
        from verifier.spec.region import around
        from verifier.spec.robustness import local_robustness
        from verifier.verdict import Status

        o, x = self.options, [float(v) for v in self.samples.x[sample]]
        region = around(x, self.radii[k].exact, norm=NORMS[o.norm], clip=o.clip)
        outputs = self.model.graph.output_size
        prop = local_robustness(region, label=int(self.samples.y[sample]), outputs=outputs)
        self.watch(f"search: sample {self.samples.index[sample]}, radius {self.radii[k].text}")
        limit = min(o.sample_timeout, self.left)
        options = Options(timeout=limit, semantics=o.semantics, seed=o.seed)
        path = None
        if o.certificates is not None:
            path = o.certificates / f"{self.samples.index[sample]}-{k}.sbcert"
        report = verify(self.model, prop, options=options, certificate=path)
        if report.status == Status.UNSAT:
            table.prove(sample, k, By.SEARCH)
        elif report.status == Status.SAT:
            table.refute(sample, k, By.SEARCH)
        if report.certificate:
            self.files.append(report.certificate)
