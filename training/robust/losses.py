"""Losses on bounds over boxes. Only ``ibp`` and ``crown-ibp`` bound the worst case; the others need
verification.

References: IBP (Gowal 2018), CROWN-IBP (Zhang 2020), loss fusion (Xu 2020), SABR (Mueller 2023), MTL-, CC-
and Exp-IBP (De Palma 2024), TAPS, STAPS (Mao 2023), regularisers (Shi 2021). Written from the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.methods import nominal
from bounds.methods.differentiable import Head
from bounds.plan import NonlinearStep
from training.attack import attack_linf
from training.config import LossConfig
from training.robust.bounded import BoundedNetwork, differences

_TIGHT: Final = 0.5  # ratios below this are pushed up (Shi et al. 2021)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's question.

    Attributes:
        net: the network; its normalisation statistics are those of this batch.
        x, y: inputs and labels.
        clean: logits of x.
        radius: present L-infinity radius.
        mix: present share of interval bounds in crown-ibp.
        classes: outputs.
        config: the loss's keys.
        clip: range of inputs, or None.
    """

    net: BoundedNetwork
    x: Tensor
    y: Tensor
    clean: Tensor
    radius: float
    mix: float
    classes: int
    config: LossConfig
    clip: tuple[float, float] | None

    def box(self, centre: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        """The clipped box around points."""
        lo, hi = centre - radius, centre + radius
        return (lo, hi) if self.clip is None else (lo.clamp(*self.clip), hi.clamp(*self.clip))

    def adversarial(self) -> Tensor:
        """Points of the box found by signed gradient steps."""
        return attack_linf(self.net.held, *self.box(self.x, self.radius), self.y, self.config.attack_steps)


def worst_logits(margins: Tensor) -> Tensor:
    """``-margins``: upper bounds of ``f_j - f_y``, 0 at y."""
    return -margins


def ibp(batch: Batch) -> Tensor:
    """Cross-entropy of interval bounds."""
    return _ibp_on(batch, *batch.box(batch.x, batch.radius))


def _ibp_on(batch: Batch, lo: Tensor, hi: Tensor) -> Tensor:
    return functional.cross_entropy(worst_logits(batch.net.margins(lo, hi, batch.y, batch.classes)), batch.y)


def crown_ibp(batch: Batch) -> Tensor:
    """``(1 - mix)`` of the interval loss and ``mix`` of the fused linear one."""
    lo, hi = batch.box(batch.x, batch.radius)
    if batch.mix <= 0:
        return _ibp_on(batch, lo, hi)
    linear = fused_cross_entropy(batch.net, lo, hi, batch.y, batch.classes).mean()
    return linear if batch.mix >= 1 else batch.mix * linear + (1 - batch.mix) * _ibp_on(batch, lo, hi)


def fused_cross_entropy(
    net: BoundedNetwork, lo: Tensor, hi: Tensor, y: Tensor, classes: int, *, merge: bool = True
) -> Tensor:
    """``B``: upper bounds of the cross-entropy over boxes by one backward row per box (loss fusion).

    ``log sum_j exp(f_j - f_y)``: each exponential lies below its chord over the interval of its exponent, and
    the chords' sum is one linear function of the logits, which one row bounds. The logarithm of an upper
    bound is an upper bound of the logarithm. Intervals of exponents are by intervals of the layer before the
    last (``merge``) or, looser, by differences of the logits' intervals.
    """
    found = _fused(net, lo, hi, y, classes, merge=merge)
    return found[0] + torch.log(found[1])


def _fused(
    net: BoundedNetwork, lo: Tensor, hi: Tensor, y: Tensor, classes: int, *, merge: bool
) -> tuple[Tensor, Tensor]:
    """``(shift, bound)``: the sum of exponentials is at most ``exp(shift) bound``."""
    held: list[Tensor] = []
    lo, hi = lo.flatten(1), hi.flatten(1)
    one = functional.one_hot(y, classes).to(lo.dtype)

    def rows(last: Head) -> tuple[Tensor, Tensor]:
        if merge:
            middle, spread = differences(last, y, classes)
        else:
            centre, radius = last.shared(torch.eye(classes, dtype=lo.dtype, device=lo.device))
            middle = centre - (centre * one).sum(1, keepdim=True)
            spread = radius + (radius * one).sum(1, keepdim=True)
        below, above = middle - spread, middle + spread
        shift = above.amax(1, keepdim=True).detach()
        chord, start = exp_chord(below - shift, above - shift)
        held.append(shift[:, 0])
        # sum_j chord_j (f_j - f_y - shift) + start_j, negated for a lower bound
        weights = chord - chord.sum(1, keepdim=True) * one
        constant = (start - chord * shift).sum(1, keepdim=True)
        return -weights[:, None, :], -constant

    lower = net.bounds.mixed_bounds(lo, hi, rows)
    return held[0], -lower[:, 0]


def exp_chord(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the chord of exp over ``[lo, hi]`` (the tangent where they coincide)."""
    wide = hi - lo > 1e-6
    width = torch.where(wide, hi - lo, 1.0)
    top = hi.exp()
    slope = torch.where(wide, top * -torch.expm1(-width) / width, top)
    return slope, top - slope * hi


def sabr(batch: Batch) -> Tensor:
    """Interval loss on a small box around an adversarial point."""
    return _ibp_on(batch, *_small_box(batch))


def _small_box(batch: Batch) -> tuple[Tensor, Tensor]:
    small = batch.config.box * batch.radius
    lo, hi = batch.box(batch.x, batch.radius - small)
    centre = torch.minimum(torch.maximum(batch.adversarial(), lo), hi)
    return batch.box(centre, small)


def mtl_ibp(batch: Batch) -> Tensor:
    """``alpha L_ibp + (1 - alpha) L_adv``."""
    alpha = batch.config.alpha
    adversarial = functional.cross_entropy(batch.net.held(batch.adversarial()), batch.y)
    return alpha * ibp(batch) + (1 - alpha) * adversarial


def cc_ibp(batch: Batch) -> Tensor:
    """Cross-entropy of a convex combination of bounds and adversarial logits."""
    alpha, y = batch.config.alpha, batch.y
    f = batch.net.held(batch.adversarial())
    margins = batch.net.margins(*batch.box(batch.x, batch.radius), y, batch.classes)
    return functional.cross_entropy(
        alpha * worst_logits(margins) + (1 - alpha) * (f - f.gather(1, y[:, None])), y
    )


def exp_ibp(batch: Batch) -> Tensor:
    """``L_ibp^alpha L_adv^(1 - alpha)``."""
    alpha = batch.config.alpha
    adversarial = functional.cross_entropy(batch.net.held(batch.adversarial()), batch.y)
    return ibp(batch) ** alpha * adversarial ** (1 - alpha)


def taps(batch: Batch) -> Tensor:
    """Intervals through the first part, an attack in the box it ends in, the product of both losses."""
    return _taps_on(batch, *batch.box(batch.x, batch.radius))


def staps(batch: Batch) -> Tensor:
    """TAPS from SABR's small box."""
    return _taps_on(batch, *_small_box(batch))


def _taps_on(batch: Batch, lo: Tensor, hi: Tensor) -> Tensor:
    step, low, high = _latent_box(batch, lo, hi)
    plan = batch.net.bounds.plan()

    def rest(z: Tensor) -> Tensor:
        return nominal.points_from(plan, step, z)

    with torch.no_grad():
        held = low.detach(), high.detach()
    point = attack_linf(rest, *held, batch.y, batch.config.attack_steps)
    width = torch.where(held[1] > held[0], held[1] - held[0], 1.0)
    place = ((point - held[0]) / width).clamp(0, 1)
    # the point keeps its place in the box, so its gradient reaches both ends
    attacked = functional.cross_entropy(rest(low + place * (high - low)), batch.y)
    interval = _ibp_on(batch, lo, hi)
    # the gradient of the product, in equal parts from both factors
    return attacked * interval.detach() + interval * attacked.detach()


def _latent_box(batch: Batch, lo: Tensor, hi: Tensor) -> tuple[int, Tensor, Tensor]:
    """The step after which the box is searched by an attack, and the box."""
    plan = batch.net.bounds.plan()
    ends = [i for i, step in enumerate(plan.steps) if isinstance(step, NonlinearStep)]
    wanted = batch.config.split or max(1, (2 * len(ends)) // 3)
    step = ends[min(wanted, len(ends)) - 1]
    found = nominal.intervals(plan, lo.flatten(1), hi.flatten(1), step + 1)
    low, high = found.ends(plan.steps[step].slot)
    return step, low, high


def balance(batch: Batch) -> Tensor:
    """Tightness and ReLU balance of pre-activations, 0 where both are good (Shi et al. 2021)."""
    lo, hi = batch.box(batch.x, batch.radius)
    widths = (hi - lo).mean() / 2
    total = batch.clean.new_zeros(())
    hidden = batch.net.bounds.hidden_intervals(lo.flatten(1), hi.flatten(1))
    for low, high in hidden:
        centre, radius = (low + high) / 2, (high - low) / 2
        total = total + (_TIGHT - widths / radius.mean().clamp(min=1e-12)).clamp(min=0)
        for ratio in _balances(centre):
            total = total + (_TIGHT - torch.minimum(ratio, 1 / ratio.clamp(min=1e-12))).clamp(min=0)
    return total / (_TIGHT * max(len(hidden), 1))


def _balances(centre: Tensor) -> list[Tensor]:
    """Mean and variance of active against inactive centres."""
    up, down = centre.clamp(min=0), centre.clamp(max=0)
    active = (centre > 0).to(centre.dtype)
    counts = active.sum().clamp(min=1), (1 - active).sum().clamp(min=1)
    means = up.sum() / counts[0], -down.sum() / counts[1]
    spread = (
        (active * (centre - means[0]) ** 2).sum() / counts[0],
        ((1 - active) * (centre + means[1]) ** 2).sum() / counts[1],
    )
    return [up.sum() / (-down.sum()).clamp(min=1e-12), spread[0] / spread[1].clamp(min=1e-12)]


def ibp_initialise(module: nn.Module) -> None:
    """Normal weights of deviation ``sqrt(2 pi) / fan_in``: interval widths neither grow nor vanish (Shi et
    al. 2021)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            fan_in = part.weight[0].numel()
            nn.init.normal_(part.weight, std=(2 * torch.pi) ** 0.5 / fan_in)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


LOSSES: Final[dict[str, Callable[[Batch], Tensor]]] = {
    "ibp": ibp,
    "crown-ibp": crown_ibp,
    "sabr": sabr,
    "mtl-ibp": mtl_ibp,
    "cc-ibp": cc_ibp,
    "exp-ibp": exp_ibp,
    "taps": taps,
    "staps": staps,
}
