"""``assert_certified``: no input near a sample has another class, proved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from bounds.io.onnx import Model
from bounds.io.session import Session
from sdp.modules import is_module
from verifier.api import verify
from verifier.query import Options
from verifier.report.model import Report
from verifier.spec.exact import Number, to_fraction
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness
from verifier.testing.errors import Counterexample, NotCertified, check_policy, undecided
from verifier.testing.models import Samples, check_export, classifier, samples_of
from verifier.testing.settings import Outcome, leave, resolve
from verifier.verdict import Semantics, Status, Witness

NORMS: Final = {"inf": "linf", "linf": "linf", "2": "l2", "l2": "l2", "1": "l1", "l1": "l1"}
_WHOLE, _MOST = 16, 5  # inputs shown all of them; changes shown of more
_PROBES = 4  # random points in the first ball at which an exported module is compared


def assert_certified(  # noqa: PLR0913 - the problem first, options keyword-only
    model: Any,
    x: Any,
    y: Any,
    *,
    eps: Number | Sequence[Number] | None = None,
    norm: object = None,
    clip: tuple[Number, Number] | None = None,
    semantics: str | None = None,
    timeout: float | None = None,
    max_domains: int | None = None,
    seed: int | None = None,
    undecided: str | None = None,
) -> tuple[Report, ...]:
    """Asserts that the class of each sample is proved constant within a distance.

    The class is the largest output; a tie counts as broken. Arguments that are not given come from the
    marker ``certified``, then from the configuration (``--surebound-timeout``, ``--surebound-undecided``).

    Args:
        model: ONNX file, loaded ``Model`` or ``torch.nn.Module`` (exported in inference mode, and
            compared with its export at the samples and some points near).
        x: a sample of the network's shape without a batch axis, or a batch ``N *x``; its numbers exactly.
        y: a class index (one sample), or ``N`` of them (a batch).
        eps: the distance; a float counts at its exact binary value, text as written ("8/255", "0.1").
            With norm "inf" also one for each input.
        norm: "inf" (default), 2 or 1.
        clip: (low, high), the valid range of every input.
        semantics: "real" (default) or "float32": what the proof is about.
        timeout: seconds for each sample; 60 unless configured.
        max_domains: subproblems for each sample: a limit that repeats exactly on every machine.
        seed: of every random choice.
        undecided: "fail" (default), "skip" or "warn", where neither a proof nor a counterexample is found.

    Returns:
        One report for each sample.

    Raises:
        NotCertified: a sample has a confirmed counterexample; it is shown, and attached.
        Undecided: some sample is open, and ``undecided`` is "fail".
        SureboundError: an argument cannot be used; nothing was decided.
    """
    given = {
        "eps": eps, "norm": norm, "clip": clip, "semantics": semantics, "timeout": timeout,
        "max_domains": max_domains, "seed": seed, "undecided": undecided,
    }  # fmt: skip
    __tracebackhide__ = True  # pytest then points at the test's own line
    return _Assertion(model, samples_of(x, y), resolve("certified", given)).run()


class _Assertion:
    """One call, its settings checked."""

    def __init__(self, model: Any, samples: Samples, settings: dict[str, Any]) -> None:
        check_policy(settings["undecided"])
        if hasattr(settings["eps"], "tolist"):  # of numpy or PyTorch: the same numbers as Python's
            settings["eps"] = settings["eps"].tolist()
        if settings["eps"] is None:
            raise BadInput("eps is not given; give the distance, here or in the marker 'certified'")
        self.samples, self.settings = samples, settings
        self.norm = NORMS.get(str(settings["norm"]).lower(), "")
        if not self.norm:
            raise BadInput(f"norm {settings['norm']!r} is not known; choose one of inf, 2, 1")
        try:
            level = Semantics(settings["semantics"])
        except ValueError:
            raise BadInput(f"semantics {settings['semantics']!r} is neither real nor float32") from None
        self.options = Options(
            timeout=settings["timeout"],
            semantics=level,
            seed=settings["seed"],
            max_domains=settings["max_domains"],
        )
        self.clip = _range(settings["clip"])
        if self.clip is not None:
            self._check_inside(self.clip)
        self.model = classifier(model, samples)
        if is_module(model):
            check_export(model, self.model, self._probes())

    def _check_inside(self, clip: tuple[Fraction, Fraction]) -> None:
        """A sample outside of the valid range would have an empty or a lopsided ball around it."""
        low, high = clip
        for index, point in enumerate(self.samples.flat):
            ends = Fraction(float(point.min())), Fraction(float(point.max()))
            if ends[0] < low or ends[1] > high:
                raise BadInput(
                    f"sample {index} has values from {point.min():.6g} to {point.max():.6g}, outside of clip "
                    f"[{float(low):.6g}, {float(high):.6g}]; correct one of them"
                )

    def _probes(self) -> Array:
        """Samples, and random points near the first."""
        eps = self.settings["eps"]
        sizes = [eps] if isinstance(eps, str) or not isinstance(eps, Sequence) else list(eps)
        radius = max(float(to_fraction(e, "eps")) for e in sizes)
        rng = np.random.default_rng(self.settings["seed"])
        first = self.samples.x[0]
        near = first + radius * rng.uniform(-1, 1, (_PROBES, *first.shape))
        if self.clip is not None:
            near = np.clip(near, float(self.clip[0]), float(self.clip[1]))
        return np.concatenate([self.samples.x[:_PROBES], near])

    def run(self) -> tuple[Report, ...]:
        """Asks about every sample, then judges them together."""
        __tracebackhide__ = True
        started = time.monotonic()
        reports = tuple(self._one(i) for i in range(len(self.samples.labels)))
        broken = [_counterexample(self, i, r.witness) for i, r in enumerate(reports) if r.witness is not None]
        proved = sum(r.status is Status.UNSAT for r in reports)
        still = [i for i, r in enumerate(reports) if r.status not in (Status.UNSAT, Status.SAT)]
        verdict = "falsified" if broken else "undecided" if proved < len(reports) else "proved"
        counts = f"{proved} of {len(reports)} samples proved, {len(broken)} falsified, {len(still)} undecided"
        seconds = time.monotonic() - started
        leave(Outcome("assert_certified", self.claim, verdict, seconds, counts))
        if broken:
            text = [self._broken(c, reports[c.sample]) for c in broken[:3]]
            raise NotCertified("\n".join([*text, self._tail(counts)]), broken, reports)
        if proved < len(reports):
            text = [self._open(i, reports[i]) for i in still[:3]]
            undecided("\n".join([*text, self._tail(counts)]), self.settings["undecided"])
        return reports

    @property
    def claim(self) -> str:
        """What is to be proved, in words."""
        eps = self.settings["eps"]
        size = str(eps) if isinstance(eps, str) or not isinstance(eps, Sequence) else "(one for each input)"
        clip = "" if self.clip is None else f" in [{float(self.clip[0]):g}, {float(self.clip[1]):g}]"
        return f"class constant within {self.norm} distance {size}{clip}, {self.options.semantics.value}"

    def _one(self, index: int) -> Report:
        eps = self.settings["eps"]
        point = self.samples.flat[index].tolist()
        region = around(point, eps, norm=self.norm, clip=self.clip)
        label = int(self.samples.labels[index])
        spec = local_robustness(region, label=label, outputs=self.model.graph.output_size)
        return verify(self.model, spec, options=self.options)

    def _tail(self, counts: str) -> str:
        return f"{counts} ({self.claim}; {self.model.path})"

    def _broken(self, found: Counterexample, report: Report) -> str:
        assert report.witness is not None
        lines = [
            f"sample {found.sample} (class {found.label}) is not robust: class {found.predicted} at "
            f"{self.norm} distance {found.distance:.6g}",
            f"  scores there: [{found.label}] {found.scores[found.label]:.9g}, "
            f"[{found.predicted}] {found.scores[found.predicted]:.9g} ({_how(report.witness)})",
        ]
        own = self._class_at(self.samples.flat[found.sample])
        if own != found.label:
            lines.insert(1, f"  the sample itself is of class {own}: it is classified wrongly to begin with")
        return "\n".join([*lines, *_changes(self.samples.x[found.sample], found.x)])

    def _class_at(self, point: Array) -> int:
        return int(_scores(self.model, point).argmax())

    def _open(self, index: int, report: Report) -> str:
        lines = [
            f"sample {index} (class {self.samples.labels[index]}) is undecided: {report.reason.value}",
            f"  proved so far: {report.closed_fraction:.2%} of the search, {report.stats.domains} domains, "
            f"{report.stats.seconds:.2f} s",
        ]
        help_ = [*report.advice, "undecided='skip' or 'warn', if an open proof is no failure for you"]
        return "\n".join([*lines, *(f"  what would help: {_spoken(line)}" for line in help_)])


def _spoken(advice: str) -> str:
    """Advice in terms of this function's arguments rather than flags of the command."""
    return advice.replace("--semantics real", "semantics='real'").replace("--max-domains", "max_domains")


def _range(clip: Any) -> tuple[Fraction, Fraction] | None:
    if clip is None:
        return None
    try:
        low, high = clip
    except (TypeError, ValueError):
        raise BadInput(f"clip is {clip!r}; give (low, high)") from None
    return to_fraction(low, "clip[0]"), to_fraction(high, "clip[1]")


def _scores(model: Model, point: Array) -> Array:
    """The network's flat outputs at a point, by onnxruntime."""
    return np.concatenate([np.asarray(v, dtype=np.float64).reshape(-1) for v in Session(model).run(point)])


def _counterexample(assertion: _Assertion, index: int, witness: Witness) -> Counterexample:
    label = int(assertion.samples.labels[index])
    centre = assertion.samples.flat[index]
    scores = np.array([float(v) for v in witness.y])
    others = np.where(np.arange(len(scores)) == label, -np.inf, scores)
    moves = [abs(x - Fraction(float(c))) for x, c in zip(witness.x, centre, strict=True)]
    x = np.array([float(v) for v in witness.x]).reshape(assertion.samples.x.shape[1:])
    distance = _length(moves, assertion.norm)
    return Counterexample(index, label, int(others.argmax()), x, scores, distance)


def _length(moves: list[Fraction], norm: str) -> float:
    if norm == "linf":
        return float(max(moves))
    total = sum(moves, Fraction(0)) if norm == "l1" else sum((m * m for m in moves), Fraction(0))
    return float(total) if norm == "l1" else float(np.sqrt(float(total)))


def _how(witness: Witness) -> str:
    if witness.kind == "replayed":
        return "replayed by " + ", ".join(f"{name} {version}" for name, version in witness.versions)
    return "exact over the reals; the rounding of onnxruntime hides it"


def _changes(sample: Array, x: Array) -> list[str]:
    """The input: all of it where it is small, else what changed most."""
    if x.size <= _WHOLE:
        return [f"  input: {np.array2string(x, separator=', ', floatmode='unique', max_line_width=200)}"]
    size = np.abs(x - sample).reshape(-1)
    order = np.argsort(-size, kind="stable")[:_MOST]
    at = [np.unravel_index(k, x.shape) for k in order]
    told = ", ".join(f"x{[int(i) for i in k]} {sample[k]:.6g} -> {x[k]:.6g}" for k in at)
    rest = int(np.count_nonzero(size)) - len(order)
    more = f", and {rest} more" if rest > 0 else ""
    return [f"  changed most: {told}{more} (all of it: error.counterexamples[0].x)"]
