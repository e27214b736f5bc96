"""Queries for the branching benchmark: images, a radius per network, ONNX and VNN-LIB files.

A query is full robustness (all nine other classes) in a box around a correctly classified test image, cut
to valid pixels. The radius is one number per network, found by bisection so that 20 to 40 % of the images
are proved by the bounds of the root alone; images on which a gradient attack succeeds at that radius are
passed over, because they say nothing about branching. What was found is kept beside the networks, together
with the commit whose bounds were used: a better root must not change the queries afterwards.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from _common import provenance
from _genbab_networks import Data, Trained
from torch import nn

from verifier import Options, verify
from verifier.spec.emit import emit_vnnlib1
from verifier.spec.model import Property
from verifier.spec.region import box
from verifier.spec.robustness import local_robustness
from verifier.verdict import Status

SHARE = (0.2, 0.4)  # of images proved at the root
_LEAST, _MOST = 2.0**-13, 0.5  # radii considered
_TRIALS = 12
_ROOT_SECONDS = 30.0
_ATTACK = (40, 4)  # steps and random starts
# bounding these once takes many seconds, so they get fewer queries
_IMAGES = {"lstm": 10, "vit": 10}


@dataclass(frozen=True)
class Query:
    """One instance: file, test image, its label, and whether the bounds of the root proved it."""

    network: str
    vnnlib: str
    index: int
    label: int
    root: bool


@dataclass(frozen=True)
class Set:
    """The queries of one network.

    Attributes:
        network, onnx, accuracy: which.
        radius: in pixels of [0, 1].
        passed_over: images attacked with success at that radius.
        commit: whose bounds chose the radius.
        seconds: of choosing.
        queries: at most as many as asked for.
    """

    network: str
    onnx: str
    accuracy: float
    radius: float
    passed_over: int
    commit: str
    seconds: float
    queries: list[Query]

    @property
    def root_share(self) -> float:
        """Share of queries proved at the root."""
        return sum(q.root for q in self.queries) / max(len(self.queries), 1)


def queries(net: Trained, data: Data, images: int, folder: Path) -> Set:
    """The queries of a network: read from the folder, or chosen and written there."""
    images = min(images, _IMAGES.get(net.recipe.kind, images))
    place = folder / f"{net.recipe.name}-{images}"
    record = place / "queries.json"
    if record.exists():
        raw = json.loads(record.read_text(encoding="utf-8"))
        return Set(**raw | {"queries": [Query(**q) for q in raw["queries"]]})
    start = time.monotonic()
    chooser = _Chooser(net, data, images)
    radius = choose_radius(chooser.share)
    kept, passed = chooser.resisting(radius)
    made: list[Query] = []
    for index in kept:
        name = f"{place.name}/{index}.vnnlib"
        place.mkdir(exist_ok=True)
        (folder / name).write_text(emit_vnnlib1(robustness(data, index, radius)), encoding="utf-8")
        root = chooser.proved(index, radius)
        made.append(Query(net.recipe.name, name, index, int(data.test_y[index]), root))
    commit = str(provenance()["commit"])
    seconds = round(time.monotonic() - start, 1)
    found = Set(net.recipe.name, net.onnx.name, net.accuracy, radius, passed, commit, seconds, made)
    place.mkdir(exist_ok=True)
    record.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    return found


def choose_radius(share: Callable[[float], float]) -> float:
    """A radius of three significant digits at which the share lies in SHARE, or the nearest seen.

    Args:
        share: of queries proved at a radius; about falling.
    """
    low, high, wanted = _LEAST, _MOST, sum(SHARE) / 2
    best, miss = low, math.inf
    for _ in range(_TRIALS):
        radius = float(f"{math.sqrt(low * high):.3g}")
        got = share(radius)
        if abs(got - wanted) <= miss:  # of equals the last: where the share jumps, that is beside the jump
            best, miss = radius, abs(got - wanted)
        if SHARE[0] <= got <= SHARE[1]:
            break
        low, high = (radius, high) if got > wanted else (low, radius)
    return best


def robustness(data: Data, index: int, radius: float) -> Property:
    """The property of a test image; bounds are float32 numbers, written exactly."""
    x = data.test_x[index]
    lower, upper = ((x + step).clamp(0, 1).tolist() for step in (-radius, radius))
    region = box([Fraction(v) for v in lower], [Fraction(v) for v in upper])
    return local_robustness(region, label=int(data.test_y[index]), outputs=10)


class _Chooser:
    """What happens to the first correctly classified test images of a network at a radius."""

    def __init__(self, net: Trained, data: Data, images: int) -> None:
        self.net, self.data, self.images = net, data, images
        with torch.no_grad():
            right = net.module(data.test_x).argmax(1) == data.test_y
        self.candidates: list[int] = torch.nonzero(right).flatten()[: 4 * images].tolist()
        self._proved: dict[tuple[int, float], bool] = {}

    def resisting(self, radius: float) -> tuple[list[int], int]:
        """The first images on which an attack fails, and how many were passed over among them."""
        broken = attacked(self.net.module, self.data, self.candidates, radius)
        kept = [index for index, hit in zip(self.candidates, broken, strict=True) if not hit][: self.images]
        passed = self.candidates.index(kept[-1]) + 1 - len(kept) if kept else len(self.candidates)
        return kept, passed

    def proved(self, index: int, radius: float) -> bool:
        """Whether ``verify`` proves an image without splitting."""
        if (index, radius) not in self._proved:
            options = Options(timeout=_ROOT_SECONDS, max_domains=1, attack=False)
            report = verify(self.net.onnx, robustness(self.data, index, radius), options=options)
            self._proved[index, radius] = report.status is Status.UNSAT
        return self._proved[index, radius]

    def share(self, radius: float) -> float:
        """Share proved among the images that resist; a part of it once it is plainly outside SHARE.

        With too few images left that resist, the radius is too large: 0.
        """
        kept, _ = self.resisting(radius)
        if len(kept) < self.images / 2:
            return 0.0
        proved = 0
        for done, index in enumerate(kept, 1):
            proved += self.proved(index, radius)
            hopeless = done >= len(kept) / 2 and not proved
            if proved > SHARE[1] * len(kept) or hopeless:
                break
        return proved / len(kept)


def attacked(module: nn.Module, data: Data, indices: list[int], radius: float) -> list[bool]:
    """Whether signed gradient steps on the least margin find another class in the box of each image."""
    steps, starts = _ATTACK
    x, y = data.test_x[indices], data.test_y[indices]
    lo, hi = (x - radius).clamp(0, 1), (x + radius).clamp(0, 1)
    chance = torch.Generator().manual_seed(0)
    broken = torch.zeros(len(indices), dtype=torch.bool)
    for start in range(starts):
        share = torch.rand(x.shape, generator=chance) if start else torch.full_like(x, 0.5)
        point = lo + share * (hi - lo)
        for step in range(steps):
            point = point.detach().requires_grad_()
            margin = _margin(module(point), y)
            broken |= (margin <= 0).detach()
            slope = torch.autograd.grad(margin.sum(), point)[0]
            rate = 0.5 * (1 - step / steps)
            point = torch.minimum(torch.maximum(point - rate * radius * slope.sign(), lo), hi)
        with torch.no_grad():
            broken |= _margin(module(point), y) <= 0
    return broken.tolist()


def _margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -math.inf)
    return own - others.max(dim=1).values
