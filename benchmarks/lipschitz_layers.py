"""1-Lipschitz layers, ours and those of deel-torchlip and orthogonium: norms and the cost of a step.

    ./scripts/bench lipschitz_layers        # the other libraries' rows where they are installed

A step is forward and backward in training mode. Norms are those of the float32 weight that inference uses,
bounded by our proof (dense: a Cholesky factor; other libraries' convolutions: on every zero-padded image), so
what another library leaves above 1 shows. Times are medians of processor time on one thread, layers in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from _common import described, provenance, write
from torch import Tensor, nn

WIDTH, CHANNELS, SIDE = 256, 16, 8


def ours() -> dict[str, Callable[[], Any]]:
    """Every parameterisation, dense and convolutional."""
    from training.layers import LAYERS, make_conv, make_dense

    made: dict[str, Callable[[], Any]] = {}
    for name in LAYERS:
        made[f"dense {name}"] = lambda name=name: make_dense(name, WIDTH, WIDTH)
        made[f"conv {name}"] = lambda name=name: make_conv(name, CHANNELS, CHANNELS, 3, size=(SIDE, SIDE))
    return made


def torchlip() -> dict[str, Callable[[], Any]]:
    """deel-torchlip's, or none."""
    try:
        from deel import torchlip as library
    except ImportError:
        print("deel-torchlip is not installed: no rows of it", file=sys.stderr)
        return {}
    return {
        "dense SpectralLinear": lambda: library.SpectralLinear(WIDTH, WIDTH),
        "dense FrobeniusLinear": lambda: library.FrobeniusLinear(WIDTH, WIDTH),
        "conv SpectralConv2d": lambda: library.SpectralConv2d(CHANNELS, CHANNELS, 3, padding=1),
    }


def orthogonium() -> dict[str, Callable[[], Any]]:
    """orthogonium's, or none."""
    try:
        from orthogonium import layers as library
    except ImportError:
        print("orthogonium is not installed: no rows of it", file=sys.stderr)
        return {}
    conv = {"padding": 1, "padding_mode": "zeros"}
    return {
        "dense OrthoLinear": lambda: library.OrthoLinear(WIDTH, WIDTH),
        "conv AdaptiveOrthoConv2d": lambda: library.AdaptiveOrthoConv2d(CHANNELS, CHANNELS, 3, **conv),
    }


def norm(layer: Any) -> float:
    """A proved bound on the norm of the layer's float32 weight."""
    from training import proof
    from training.layers.base import LipschitzLayer, conv_norm

    layer.eval()
    if isinstance(layer, LipschitzLayer):
        return layer.lipschitz()
    with torch.no_grad():
        weight = layer.weight.detach().double().numpy()
    if isinstance(layer, nn.Conv2d):
        return conv_norm(weight, 1, 1, 1, None)
    return proof.matrix_norm(weight)


def step(layer: nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    y = layer(x)
    y.backward(torch.ones_like(y))
    layer.zero_grad(set_to_none=True)


def main() -> None:
    """Measures all rows in turns."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--rounds", type=int, default=9)
    arguments = p.parse_args()
    torch.set_num_threads(1)
    sources = {"surebound": ours(), "deel-torchlip": torchlip(), "orthogonium": orthogonium()}
    built: list[tuple[str, str, Any, Tensor]] = []
    for library, layers in sources.items():
        for name, make in layers.items():
            torch.manual_seed(0)
            shape = (WIDTH,) if name.startswith("dense") else (CHANNELS, SIDE, SIDE)
            built.append((library, name, make(), torch.randn(arguments.batch, *shape, requires_grad=True)))
    times: list[list[float]] = [[] for _ in built]
    for _ in range(arguments.rounds + 1):
        for (_, _, layer, x), held in zip(built, times, strict=True):
            layer.train()
            start = time.process_time()
            step(layer, x)
            held.append(time.process_time() - start)
    rows = [
        {"library": library, "layer": name, "ms": 1e3 * statistics.median(t[1:]), "norm": norm(layer)}
        for (library, name, layer, _), t in zip(built, times, strict=True)
    ]
    record = {**provenance(**vars(arguments)), "rows": rows}
    lines = [
        "# 1-Lipschitz layers: norms and cost of a step\n",
        "| layer | library | proved norm of the float32 weight | ms a step |",
        "|---|---|---|---|",
        *(
            f"| {r['layer']} | {r['library']} | {r['norm']:.7f} | {r['ms']:.1f} |"
            for r in sorted(rows, key=lambda r: (r["layer"].split()[0], r["ms"]))
        ),
        "",
        f"Dense {WIDTH} to {WIDTH}; convolutions 3x3, {CHANNELS} channels on {SIDE}x{SIDE}; fresh parameters,"
        " one step of training behind them. " + described(record),
        "",
    ]
    write("lipschitz_layers", record, "\n".join(lines))


if __name__ == "__main__":
    main()
