"""Lipschitz bounds: every method on the same networks, values proved, times beside.

``--root DIR`` names a folder with third-party data that is no part of this repository: ``maxmin_mnist/*.mat``
(MaxMin networks trained by the authors of Pauli et al. 2024, cell ``W``) and ``mnist.npz``. Without it only
the random networks run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _common import RESULTS, described, provenance, write
from onnx import TensorProto, helper, numpy_helper

import sdp
from bounds.errors import SureboundError
from sdp.chart import Chart, Series, svg

ORDER = ("2fc_16", "2fc_32", "5fc_32", "8fc_32", "18fc_32")
# published L2 bounds (Pauli et al. 2024, table 1), and ours to reach
PUBLISHED = {"2fc_16": 22.59, "2fc_32": 38.55, "5fc_32": 224.5, "8fc_32": 401.0, "18fc_32": 17432.0}
TARGET = {"2fc_16": 22.08, "2fc_32": 38.08, "5fc_32": 193.3, "8fc_32": 309.4, "18fc_32": 11300.0}
CHEAP = ("product", "greedy", "eclipse-fast", "eclipse-cf", "eclipse", "first-order")
SOLVERS = (
    "lipsdp-neuron-scs", "lipsdp-neuron-clarabel", "lipsdp-chain-scs", "lipsdp-chain-clarabel"
)  # fmt: skip
CLARABEL_LIMIT, SCS_LIMIT = 60, 160  # elements: beyond, one run takes many minutes


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the chosen parts and writes results/lipschitz.{json,md}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder with maxmin_mnist/ and mnist.npz")
    parser.add_argument("--only", nargs="*", default=[], help="names (or parts of names) of networks")
    parser.add_argument("--solvers", action="store_true", help="also run cvxpy with SCS and Clarabel")
    parser.add_argument("--seconds", type=float, default=170.0, help="search limit per method and network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--merge", action="store_true", help="keep the networks of the last run not run now")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in networks(args.root, Path(folder), args.seed):
            if args.only and not any(part in name for part in args.only):
                continue
            rows.extend(measure(name, path(), args))
    if args.merge:
        rows = merged(rows)
    record = {**provenance(seconds=args.seconds, seed=args.seed, solvers=args.solvers), "rows": rows}
    (RESULTS / "lipschitz_depth.svg").write_text(depth_picture(rows), encoding="utf-8")
    write("lipschitz", record, table(rows) + f"\n{described(record)}\n")
    return 0


def networks(root: Path | None, folder: Path, seed: int) -> Iterator[tuple[str, Any]]:
    """Names, and functions that make the ONNX file."""
    rng = np.random.default_rng(seed)
    if root is not None:
        for name in ORDER:
            file = root / "maxmin_mnist" / f"weights_l2_{name}.mat"
            yield f"maxmin-{name}", lambda file=file, name=name: maxmin(file, folder / f"{name}.onnx")
        for widths in ((784, 256, 256, 10), (784, 512, 512, 512, 10)):
            label = "-".join(map(str, widths))
            yield (
                f"mnist-{label}",
                lambda w=widths, s=label: train(root / "mnist.npz", w, folder / f"{s}.onnx", seed),
            )
    deep = (784, *[256] * 100, 10)
    yield (
        "random-100x256",
        lambda: dense([gaussian(rng, *p) for p in zip(deep[1:], deep, strict=False)], folder / "d.onnx"),
    )
    for depth in (10, 20, 40, 80):
        widths = (64, *[64] * depth, 10)
        yield (
            f"random-{depth}x64",
            lambda w=widths, d=depth: dense(
                [gaussian(rng, *p) for p in zip(w[1:], w, strict=False)], folder / f"r{d}.onnx"
            ),
        )
    yield "cnn-cifar-size", lambda: cnn(rng, folder / "cnn.onnx")


def measure(name: str, path: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per method."""
    rows: list[dict[str, Any]] = []
    count: int | None = None
    for method in ("auto", *CHEAP, *(SOLVERS if args.solvers else ())):
        if rows and rows[0]["method"] == f"auto: {method}":
            continue
        if method in SOLVERS and (
            count is None or count > (SCS_LIMIT if "scs" in method else CLARABEL_LIMIT)
        ):
            continue
        sampling = sdp.Sampling(points=48, rounds=20) if method == "auto" else None
        start, cpu = time.monotonic(), time.process_time()
        try:
            effort = sdp.Effort(seconds=args.seconds, sampling=sampling, seed=args.seed)
            bound = sdp.lipschitz(path, method=method, effort=effort)
            if bound.method != method and method != "auto":
                raise SureboundError("; ".join(bound.notes))
        except SureboundError as error:
            row = {
                "network": name,
                "method": method,
                "error": str(error),
                "seconds": time.monotonic() - start,
            }
        else:
            count = bound.elements
            row = {
                "network": name,
                "method": f"auto: {bound.method}" if method == "auto" else method,
                "upper": bound.upper,
                "lower": bound.lower,
                "seconds": bound.seconds,
                "cpu": time.process_time() - cpu if sampling is None else None,
                "claimed": finite(bound.rows[0].claimed),
                "certified": bound.certified,
                "elements": bound.elements,
            }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Lipschitz bounds\n",
        "Every upper bound is proved, rounding included; `claimed` is what the method (or solver) said\n"
        "itself. `published` and `target` are for L2. `seconds` are of a machine that others used, `cpu`\n"
        "its processor's. Growth with depth (random networks of width 64): [picture](lipschitz_depth.svg).\n",
        "| network | method | upper | claimed | sampled lower | ratio | seconds | cpu | published | target |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lower: dict[str, float] = {}
    for row in rows:
        key = row["network"].removeprefix("maxmin-")
        if "error" in row:
            lines.append(
                f"| {row['network']} | {row['method']} | error: {row['error']} "
                f"| | | | {row['seconds']:.1f} | | | |"
            )
            continue
        lower[row["network"]] = max(lower.get(row["network"], 0.0), row["lower"])
        low = lower[row["network"]]
        lines.append(
            f"| {row['network']} | {row['method']} | {row['upper']:.6g} | {shown(row.get('claimed'))} "
            f"| {low:.5g} | {row['upper'] / low:.4g} "
            f"| {row['seconds']:.1f} | {shown(row.get('cpu'))} "
            f"| {PUBLISHED.get(key, '')} | {TARGET.get(key, '')} |"
        )
    return "\n".join(lines) + "\n"


def merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These rows, and those of the last run's other networks, in the usual order."""
    file = RESULTS / "lipschitz.json"
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    mine = {row["network"] for row in rows}
    return [row for row in old if row["network"] not in mine] + rows


def finite(value: float) -> float | None:
    """A number, if it is one."""
    return value if np.isfinite(value) else None


def shown(value: float | None) -> str:
    """For a cell."""
    return "" if value is None else f"{value:.6g}"


def depth_picture(rows: Sequence[dict[str, Any]]) -> str:
    """Time against depth for the random networks of width 64."""
    series: list[Series] = []
    for method in ("first-order", "greedy", "eclipse-fast", "eclipse-cf"):
        points = sorted(
            (int(r["network"].split("-")[1].split("x")[0]), r.get("cpu") or r["seconds"])
            for r in rows
            if r["network"].endswith("x64")
            and "error" not in r
            and r["method"].removeprefix("auto: ") == method
        )
        if points:
            series.append(Series(method, [p[0] for p in points], [p[1] for p in points]))
    return svg([Chart("Time by depth, width 64", "hidden layers", "processor seconds", series)])


# ---------------------------------------------------------------- networks
def gaussian(rng: np.random.Generator, outputs: int, inputs: int) -> np.ndarray[Any, Any]:
    """He-normal weights."""
    return rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)


def maxmin(file: Path, out: Path) -> Path:
    """Weights of a .mat file with MaxMin over consecutive pairs after every layer but the last."""
    from scipy.io import loadmat

    nodes: list[Any] = []
    stored: list[Any] = []
    x = "X"
    weights = [np.asarray(w, dtype=np.float32) for w in loadmat(file)["W"].ravel()]
    for k, w in enumerate(weights):
        stored.append(numpy_helper.from_array(np.ascontiguousarray(w.T), f"W{k}"))
        nodes.append(helper.make_node("MatMul", [x, f"W{k}"], [f"z{k}"]))
        x = f"z{k}"
        if k == len(weights) - 1:
            break
        n = len(w)
        stored.append(numpy_helper.from_array(np.array([1, n // 2, 2], dtype=np.int64), f"pairs{k}"))
        stored.append(numpy_helper.from_array(np.array([1, n], dtype=np.int64), f"flat{k}"))
        nodes += [
            helper.make_node("Reshape", [x, f"pairs{k}"], [f"p{k}"]),
            helper.make_node("Split", [f"p{k}"], [f"a{k}", f"b{k}"], axis=2, num_outputs=2),
            helper.make_node("Max", [f"a{k}", f"b{k}"], [f"hi{k}"]),
            helper.make_node("Min", [f"a{k}", f"b{k}"], [f"lo{k}"]),
            helper.make_node("Concat", [f"hi{k}", f"lo{k}"], [f"c{k}"], axis=2),
            helper.make_node("Reshape", [f"c{k}", f"flat{k}"], [f"h{k}"]),
        ]
        x = f"h{k}"
    return save(nodes, stored, x, [1, weights[0].shape[1]], [1, len(weights[-1])], out)


def dense(weights: Sequence[np.ndarray[Any, Any]], out: Path, biases: Sequence[Any] | None = None) -> Path:
    """A ReLU network."""
    nodes: list[Any] = []
    stored: list[Any] = []
    x = "X"
    for k, w in enumerate(weights):
        bias = np.zeros(len(w)) if biases is None else biases[k]
        stored.append(numpy_helper.from_array(w.astype(np.float32), f"W{k}"))
        stored.append(numpy_helper.from_array(np.asarray(bias, dtype=np.float32), f"b{k}"))
        nodes.append(helper.make_node("Gemm", [x, f"W{k}", f"b{k}"], [f"z{k}"], transB=1))
        x = f"z{k}"
        if k < len(weights) - 1:
            nodes.append(helper.make_node("Relu", [x], [f"h{k}"]))
            x = f"h{k}"
    return save(nodes, stored, x, [1, weights[0].shape[1]], [1, len(weights[-1])], out)


def cnn(rng: np.random.Generator, out: Path) -> Path:
    """Four convolutions of CIFAR's size and two dense layers."""
    nodes: list[Any] = []
    stored: list[Any] = []
    x, channels = "X", 3
    for k, (width, stride) in enumerate(((16, 1), (16, 2), (32, 1), (32, 2))):
        w = rng.standard_normal((width, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
        stored.append(numpy_helper.from_array(w.astype(np.float32), f"W{k}"))
        nodes.append(helper.make_node("Conv", [x, f"W{k}"], [f"z{k}"], strides=[stride] * 2, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"z{k}"], [f"h{k}"]))
        x, channels = f"h{k}", width
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    x = "flat"
    for name, shape in (("A", (100, 32 * 64)), ("B", (10, 100))):
        stored.append(numpy_helper.from_array(gaussian(rng, *shape).astype(np.float32), name))
        stored.append(numpy_helper.from_array(np.zeros(shape[0], dtype=np.float32), f"b{name}"))
        nodes.append(helper.make_node("Gemm", [x, name, f"b{name}"], [f"z{name}"], transB=1))
        x = f"z{name}"
        if name == "A":
            nodes.append(helper.make_node("Relu", [x], ["hA"]))
            x = "hA"
    return save(nodes, stored, x, [1, 3, 32, 32], [1, 10], out)


def train(file: Path, widths: Sequence[int], out: Path, seed: int) -> Path:
    """Three epochs of Adam on MNIST (PyTorch, weight decay 1e-4)."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data = np.load(file)
    x = torch.tensor(data["x_train"].reshape(-1, widths[0]) / 255.0, dtype=torch.float32)
    y = torch.tensor(data["y_train"].astype(np.int64))
    layers: list[Any] = []
    for a, b in pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(3):
        order = torch.randperm(len(x))
        for i in range(0, len(x), 128):
            pick = order[i : i + 128]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x[pick]), y[pick]).backward()
            optimiser.step()
    with torch.no_grad():
        right = net(torch.tensor(data["x_test"].reshape(-1, widths[0]) / 255.0, dtype=torch.float32)).argmax(
            1
        )
        accuracy = float((right.numpy() == data["y_test"]).mean())
    print(f"trained {widths}: test accuracy {accuracy:.4f}", file=sys.stderr)
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    return dense([m.weight.detach().numpy() for m in linear], out, [m.bias.detach().numpy() for m in linear])


def save(
    nodes: Sequence[Any], stored: Sequence[Any], x: str, ins: Sequence[int], outs: Sequence[int], out: Path
) -> Path:
    """Writes the file."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(ins))],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, list(outs))],
        list(stored),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, out)
    return out


if __name__ == "__main__":
    raise SystemExit(main())
