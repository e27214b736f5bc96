"""The two kinds of training: what a step minimises, how a network is measured, what is exported.

A *margin task* trains a 1-Lipschitz network on L2 margins, a *bound task* a plain one on L-infinity boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bounds.errors import BadInput
from training import certificates, losses, schedule
from training.attack import attack_l2, attack_linf
from training.config import BOUND_LOSSES, MARGIN_LOSSES, Config
from training.data import Dataset
from training.initialise import initialise
from training.network import LipschitzNetwork, build_lipschitz, build_plain
from training.robust import losses as bound_losses
from training.robust.bounded import BoundedNetwork
from training.robust.certify import certified_linf

_PART: Final = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """Accuracies.

    Attributes:
        clean: of the inputs as they are.
        certified: radius to accuracy.
    """

    clean: float
    certified: dict[str, float]


@dataclass(frozen=True, slots=True)
class Product:
    """What a run ends in.

    Attributes:
        module: ordinary modules.
        measured: proved accuracies on the test set.
        lipschitz: proved constant (L2), where there is one.
        norm: of the radii.
    """

    module: nn.Module
    measured: Measured
    lipschitz: float | None
    norm: str


class Task(Protocol):
    """One kind of training."""

    model: nn.Module
    norm: str

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """What a step minimises, at a share of training done."""
        ...

    def measure(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Measured:
        """Quick figures during training (nominal: rounding ignored)."""
        ...

    def finish(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Product:
        """The network for export and its proved figures."""
        ...


def make_task(config: Config, data: Dataset) -> Task:
    """The task that a configuration describes, with a fresh network.

    Raises:
        BadInput: loss and kind of model do not fit together.
    """
    known = MARGIN_LOSSES if config.model.kind == "lipschitz" else BOUND_LOSSES
    if config.loss.name not in known:
        raise BadInput(
            f"loss '{config.loss.name}' does not go with model kind '{config.model.kind}': use one of"
            f" {', '.join(known)}"
        )
    if config.model.kind == "lipschitz":
        return MarginTask(config, data)
    return BoundTask(config, data)


class MarginTask:
    """See the module."""

    norm = "2"

    def __init__(self, config: Config, data: Dataset) -> None:
        self.config = config
        self.model: nn.Module = build_lipschitz(config.model, data.shape, data.classes)
        initialise(self.model, config.model.init)
        self._loss = losses.margin_loss(config.loss)

    @property
    def network(self) -> LipschitzNetwork:
        """The model, typed."""
        assert isinstance(self.model, LipschitzNetwork)
        return self.model

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """The margin loss at the full radius."""
        del share
        settings = self.config.loss
        f = self.model(x)
        total = self._loss(f, y, self.network.head_distances(), settings, settings.radius)
        if settings.l1:
            total = total + settings.l1 * sum(p.abs().sum() for p in self.model.parameters())
        return total

    def measure(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Measured:
        """Margins over head distances."""
        with torch.no_grad():
            f = torch.cat([self.model(part) for part in x.split(_PART)])
            found = losses.certified_radii(f, y, self.network.head_distances())
        clean = float((f.argmax(1) == y).double().mean())
        return Measured(clean, certificates.accuracies(found.cpu().numpy(), radii))

    def finish(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Product:
        """The materialised network; radii from proved constants."""
        proved = self.network.materialise()
        found = certificates.radii(proved, x, y)
        clean = float(np.mean(found > 0))
        measured = Measured(clean, certificates.accuracies(found, radii))
        return Product(proved.body, measured, proved.lipschitz, self.norm)


class BoundTask:
    """See the module."""

    norm = "inf"

    def __init__(self, config: Config, data: Dataset) -> None:
        self.config, self.classes = config, data.classes
        module = build_plain(config.model, data.shape, data.classes)
        if config.model.init == "ibp":
            bound_losses.ibp_initialise(module)
        elif config.model.init != "default":
            raise BadInput(
                f"init '{config.model.init}' is for 1-Lipschitz layers; plain networks take default or ibp"
            )
        module.to(config.train.device)
        self.model: nn.Module = module
        self.plain = module
        self.net = BoundedNetwork(module, data.shape)
        low, high = float(data.train_x.min()), float(data.train_x.max())
        self.clip = (0.0, 1.0) if low >= 0 and high <= 1 else None

    def loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """``kappa`` of the clean loss, the rest of the bound's, regularisers during the ramp."""
        settings = self.config.loss
        clean = self.net.clean(x)
        grown, kappa = schedule.ramp(settings, share), schedule.kappa(settings, share)
        total = kappa * torch.nn.functional.cross_entropy(clean, y)
        batch = bound_losses.Batch(
            self.net,
            x,
            y,
            clean,
            settings.radius * grown,
            schedule.mix(settings, share),
            self.classes,
            settings,
            self.clip,
        )
        if grown > 0 and kappa < 1:
            total = total + (1 - kappa) * bound_losses.LOSSES[settings.name](batch)
        if settings.balance and 0 < grown < 1:
            total = total + settings.balance * (1 - grown) * bound_losses.balance(batch)
        if settings.l1:
            total = total + settings.l1 * sum(p.abs().sum() for p in self.model.parameters())
        return total

    def measure(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Measured:
        """The better of interval and linear bounds."""
        self.net.refresh()
        clean, certified = 0.0, dict.fromkeys((f"{r:g}" for r in radii), 0.0)
        with torch.no_grad():
            for part, labels in zip(x.split(_PART), y.split(_PART), strict=True):
                clean += float((self.model(part).argmax(1) == labels).sum())
                for r in radii:
                    lo, hi = part - r, part + r
                    if self.clip:
                        lo, hi = lo.clamp(*self.clip), hi.clamp(*self.clip)
                    bounds = self.net.linear_margins(lo, hi, labels, self.classes)
                    bounds = torch.maximum(bounds, self.net.margins(lo, hi, labels, self.classes))
                    certified[f"{r:g}"] += float((_others(bounds, labels) > 0).sum())
        return Measured(clean / len(y), {r: n / len(y) for r, n in certified.items()})

    def finish(self, x: Tensor, y: Tensor, radii: Sequence[float]) -> Product:
        """The module; accuracies by rigorous root bounds."""
        self.model.eval()
        found = certified_linf(self.plain, x, y, radii, self.classes, self.clip)
        return Product(self.plain, Measured(*found), None, self.norm)


def _others(bounds: Tensor, y: Tensor) -> Tensor:
    """``B``: the least bound over the other classes."""
    return bounds.scatter(1, y[:, None], torch.inf).amin(1)


def attacked(
    module: nn.Module, x: Tensor, y: Tensor, norm: str, radii: Sequence[float], steps: int, clip: Any = None
) -> dict[str, float]:
    """Accuracy under attack per radius: an upper bound of robust accuracy."""
    out: dict[str, float] = {}
    for r in radii:
        right = 0
        for part, labels in zip(x.split(_PART), y.split(_PART), strict=True):
            if norm == "2":
                points = attack_l2(module, part, labels, r, steps)
            else:
                lo, hi = part - r, part + r
                lo, hi = (lo.clamp(*clip), hi.clamp(*clip)) if clip else (lo, hi)
                points = attack_linf(module, lo, hi, labels, steps)
            with torch.no_grad():
                # an attack that fails proves nothing about the point itself
                held = (module(points).argmax(1) == labels) & (module(part).argmax(1) == labels)
                right += int(held.sum())
        out[f"{r:g}"] = right / len(y)
    return out
