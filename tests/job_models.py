"""Tiny networks and requests for jobs, made in the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from workers.jobs.artifacts import Artifacts
from workers.jobs.model import Budget, Job, Kind, Model, NewJob
from workers.jobs.store import JobStore

BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))"
DECLARED = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
# the network below computes y0 = |x0| + |x1| <= 2 and y1 = x0
HOLDS = f"{DECLARED}{BOX}(assert (>= Y_0 2.5))"
FAILS = f"{DECLARED}{BOX}(assert (>= Y_0 1.5))"


def network(weights: list[Any], biases: list[Any]) -> bytes:
    """An ONNX file of dense layers with rectifiers between them."""
    nodes, tensors, last = [], [], "x"
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        w, b = np.asarray(w, dtype=np.float32), np.asarray(b, dtype=np.float32)
        tensors += [
            helper.make_tensor(f"w{i}", TensorProto.FLOAT, w.shape, w.ravel()),
            helper.make_tensor(f"b{i}", TensorProto.FLOAT, b.shape, b.ravel()),
        ]
        out = "y" if i == len(weights) - 1 else f"h{i}"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [out], transB=1))
        if out != "y":
            nodes.append(helper.make_node("Relu", [out], [f"r{i}"]))
            last = f"r{i}"
    inputs = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(np.asarray(weights[0])[0])])
    outputs = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(np.asarray(weights[-1]))])
    graph = helper.make_graph(nodes, "net", [inputs], [outputs], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def absolute() -> bytes:
    """``y0 = |x0| + |x1|``, ``y1 = x0``."""
    first = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    return network([first, [[1, 1, 1, 1], [1, -1, 0, 0]]], [[0] * 4, [0, 0]])


def hard(inputs: int = 8, width: int = 40, seed: int = 0) -> bytes:
    """A random network that takes a while to be bounded well."""
    rng = np.random.default_rng(seed)
    sizes = [inputs, width, width, 2]
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(sizes)]
    return network(weights, [0.1 * rng.standard_normal(len(w)) for w in weights])


def box_property(inputs: int, bound: float, radius: float = 1.0) -> str:
    """``y0 < bound`` on a box."""
    names = [f"X_{i}" for i in range(inputs)]
    text = "".join(f"(declare-const {n} Real)" for n in [*names, "Y_0", "Y_1"])
    text += "".join(f"(assert (>= {n} {-radius}))(assert (<= {n} {radius}))" for n in names)
    return f"{text}(assert (>= Y_0 {bound}))"


def upload(store: JobStore, artifacts: Artifacts, data: bytes, tenant: str = "local") -> str:
    """Stores a network as the service does."""
    digest, size = artifacts.put_bytes(data)
    store.put_model(Model(digest, tenant, size, "net.onnx", 0.0))
    return digest


def request(model: str, vnnlib: str, timeout_s: float = 30.0, **more: Any) -> NewJob:
    """A ``verify`` job."""
    asked = {"model": model, "property": {"vnnlib": vnnlib}, "options": more.pop("options", {})}
    return NewJob("local", Kind.VERIFY, asked, Budget(timeout_s, 2048), **more)


def store_at(folder: Path) -> tuple[Any, Artifacts]:
    """A store and its artefacts in a folder."""
    from workers.jobs.sql import open_store

    return open_store(str(folder / "jobs.db")), Artifacts(folder / "files")


def wait_for(done: Callable[[], bool], seconds: float = 90.0) -> None:
    """Until something holds, or the test has failed; looks often, since what is waited for is real."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.02)


def finished(store: JobStore, names: Iterable[str], seconds: float = 90.0) -> list[Job]:
    """The jobs, when all of them are final."""
    wanted = list(names)
    wait_for(lambda: all(store.get(n, None).state.final for n in wanted), seconds)
    return [store.get(n, None) for n in wanted]
