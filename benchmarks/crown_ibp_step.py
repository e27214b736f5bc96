"""One CROWN-IBP training step with loss fusion: ours and auto_LiRPA's on the same network and batch.

    PYTHONPATH=.../auto_LiRPA .venv/bin/python benchmarks/crown_ibp_step.py

A step is: intervals, one backward row per example, the loss, gradients of all parameters. Both sides take
turns in one process with one thread; times are processor time. The losses must agree to 1e-5, and all
gradients are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from _common import described, provenance, write
from torch import Tensor, nn

NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Sequential]]] = {
    "mlp 3x256": (
        (784,),
        lambda: nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
            nn.Linear(256, 10),
        ),
    ),
    "cnn-4 mnist": (
        (1, 28, 28),
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 49, 100), nn.ReLU(), nn.Linear(100, 10),
        ),
    ),
    "cnn-5 cifar": (
        (3, 32, 32),
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 128), nn.ReLU(),
            nn.Linear(128, 10),
        ),
    ),
}  # fmt: skip


def ours(module: nn.Sequential, shape: tuple[int, ...]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Our step's loss."""
    from training.robust.bounded import BoundedNetwork
    from training.robust.losses import fused_cross_entropy

    net = BoundedNetwork(module, shape)

    def loss(x: Tensor, y: Tensor, radius: float) -> Tensor:
        return fused_cross_entropy(net, x - radius, x + radius, y, 10).mean()

    return loss


def theirs(module: nn.Sequential, x: Tensor, y: Tensor) -> Any:
    """The same by auto_LiRPA, or None where it is not installed."""
    try:
        from auto_LiRPA import BoundedModule, BoundedTensor, CrossEntropyWrapper, PerturbationLpNorm
    except ImportError:
        return None
    from torch.onnx import register_custom_op_symbolic

    # newer PyTorch writes a one-hot product instead, which auto_LiRPA does not read
    def gather(g: Any, value: Any, dim: Any, index: Any, _sparse: Any = None) -> Any:
        axis = torch.onnx.symbolic_helper._get_const(dim, "i", "dim")
        return g.op("GatherElements", value, index, axis_i=axis)

    register_custom_op_symbolic("aten::gather", gather, 9)
    wrapped = CrossEntropyWrapper(module)
    net = BoundedModule(wrapped, (x, y), bound_opts={"loss_fusion": True, "conv_mode": "patches"})

    def loss(x: Tensor, y: Tensor, radius: float) -> Tensor:
        region = PerturbationLpNorm(norm=float("inf"), eps=radius, x_L=x - radius, x_U=x + radius)
        _, ub = net.compute_bounds(
            x=(BoundedTensor(x, region), y), IBP=True, C=None, method="IBP+backward", bound_lower=False
        )
        shift = next(n for n in net.nodes() if type(n).__name__ == "BoundExp").max_input
        return (torch.log(ub) + shift).mean()

    return net, loss


def step(
    loss: Any, parameters: list[Tensor], x: Tensor, y: Tensor, radius: float
) -> tuple[float, list[Tensor]]:
    """Loss and gradients."""
    value = loss(x, y, radius)
    gradients = torch.autograd.grad(value, parameters)
    return float(value.detach()), list(gradients)


def main() -> None:
    """Compares on every network."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--radius", type=float, default=0.02)
    arguments = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for name, (shape, build) in NETWORKS.items():
        torch.manual_seed(0)
        module = build()
        x, y = torch.rand(arguments.batch, *shape), torch.randint(0, 10, (arguments.batch,))
        own = ours(module, shape)
        pair = theirs(module, x, y)
        if pair is None:
            raise SystemExit("auto_LiRPA is not installed: see docs/howto/second-engine.md")
        net, other = pair
        sides = {"ours": (own, list(module.parameters())), "auto_LiRPA": (other, list(net.parameters()))}
        times: dict[str, list[float]] = {side: [] for side in sides}
        found: dict[str, Any] = {}
        for number in range(arguments.rounds + 2):
            for side, (loss, parameters) in sides.items():
                start = time.process_time()
                found[side] = step(loss, parameters, x, y, arguments.radius)
                if number >= 2:
                    times[side].append(time.process_time() - start)
        rows.append(compared(name, times, found))
        print(rows[-1], flush=True)
    record = {**provenance(**vars(arguments)), "auto_LiRPA": version(), "rows": rows}
    how = f"Median processor time of {arguments.rounds} steps each, in turns."
    lines = [
        "# One CROWN-IBP step with loss fusion\n",
        "| network | ours, ms | auto_LiRPA, ms | ratio | loss | difference | of gradients |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['network']} | {r['ours_ms']:.1f} | {r['theirs_ms']:.1f} | {r['ratio']:.2f}"
            f" | {r['loss']:.6f} | {r['difference']:.1e} | {r['gradient_difference']:.1e} |"
            for r in rows
        ),
        "",
        f"{how} {described(record)}, auto_LiRPA {version()}",
        "",
    ]
    write("crown_ibp_step", record, "\n".join(lines))
    if any(r["difference"] > 1e-5 for r in rows):
        raise SystemExit("the losses differ")


def compared(name: str, times: dict[str, list[float]], found: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    (mine, own), (other, given) = found["ours"], found["auto_LiRPA"]
    by_shape = (
        sorted(own, key=lambda g: (tuple(g.shape), float(g.sum()))),
        sorted(given, key=lambda g: (tuple(g.shape), float(g.sum()))),
    )
    apart = max(float((a - b).abs().max()) for a, b in zip(*by_shape, strict=True))
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {
        "network": name,
        "ours_ms": 1e3 * medians["ours"],
        "theirs_ms": 1e3 * medians["auto_LiRPA"],
        "ratio": medians["auto_LiRPA"] / medians["ours"],
        "loss": mine,
        "difference": abs(mine - other) / max(1.0, abs(mine)),
        "gradient_difference": apart,
        "times_ms": {side: [round(1e3 * t, 2) for t in values] for side, values in times.items()},
    }


def version() -> str:
    """auto_LiRPA's."""
    import auto_LiRPA

    return auto_LiRPA.__version__


if __name__ == "__main__":
    main()
