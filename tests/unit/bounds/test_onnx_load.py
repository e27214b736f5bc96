"""Loading: constants stay exact, names and order are kept, bad input is one clear error."""

from __future__ import annotations

import gzip
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_models import residual, tiny, weights

from bounds.errors import BadInput, LimitExceeded, ModelInvalid, ModelUnsupported, SureboundError
from bounds.evaluate import evaluate, evaluate_nodes
from bounds.graph import Op
from bounds.io import values
from bounds.io.limits import Limits, read_bytes
from bounds.io.onnx import describe, load, load_bytes, unsupported
from bounds.io.values import Const


def bytes_of(body: str, **kwargs: Any) -> bytes:
    return tiny(body, **kwargs).SerializeToString()


def test_import_is_light() -> None:
    code = "import bounds.io.onnx, sys; assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_names_aliases_and_order() -> None:
    model = load_bytes(
        bytes_of("a = Relu(x) b = Identity(a) e = MatMul(b, w) c = Abs(e) d = Clip(c, lo, hi) y = Max(d, x)",
            w=weights(3, 3), lo=np.float32(-1), hi=np.float32(2)), "m"
    )  # fmt: skip
    assert model.tensors["a"] == model.tensors["b"]
    relus = [n.source for n in model.graph.relus]
    assert relus == ["a", "y"]
    assert [n.source for n in model.graph.scalars] == ["d"]  # more than one kink: one function of e
    assert model.graph.nodes[model.tensors["y"]].tensor == "y"


def test_initializers_among_inputs_and_dead_nodes() -> None:
    proto = tiny("u = Sigmoid(x) y = Add(x, c)", c=weights(3), inputs="float[1,3] x, float[3] c")
    model = load_bytes(proto.SerializeToString(), "m")
    assert [p.name for p in model.graph.inputs] == ["x"]
    assert "u" not in model.tensors


def test_symbolic_batch_is_one() -> None:
    assert load_bytes(bytes_of("y = Relu(x)", inputs="float[N,3] x"), "m").graph.inputs[0].shape == (1, 3)


def test_double_keeps_its_type() -> None:
    model = load_bytes(bytes_of("y = Relu(x)", inputs="double[2] x", outputs="double[] y"), "m")
    assert model.graph.inputs[0].dtype == model.graph.outputs[0].dtype == "float64"


def test_batch_norm_error_is_covered() -> None:
    g, b, m, v = weights(4), weights(4, seed=1), weights(4, seed=2), abs(weights(4, seed=3))
    body = "y = BatchNormalization(x, g, b, m, v)"
    graph = load_bytes(bytes_of(body, inputs="float[1,4] x", g=g, b=b, m=m, v=v), "m").graph
    node = graph.nodes[-1]
    epsilon = Fraction(float(np.float32(1e-5)))
    for i in range(4):  # |true - s| <= e |s| with true^2 = g^2 / (v + epsilon), in rationals
        square = Fraction(float(g[i])) ** 2 / (Fraction(float(v[i])) + epsilon)
        stored = abs(Fraction(float(node.params["scale"].ravel()[i])))
        e = Fraction(node.weight_error)
        assert (stored * (1 - e)) ** 2 <= square <= (stored * (1 + e)) ** 2
    assert (graph.nodes[-2].weight_error, node.params["shift"].ravel().tolist()) == (0.0, b.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_folded_constants_are_within_their_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (Const(rng.standard_normal(50) * 10.0 ** rng.integers(-6, 6, 50), "float64") for _ in range(2))
    one_sign = Const(np.abs(b.data), "float64", error=values.ROUND)
    for fold, true in (
        (values.add, lambda x, y: x + y),
        (values.multiply, lambda x, y: x * y),
        (values.divide, lambda x, y: x / y),
    ):
        result = fold(a, b)
        assert result is not None
        for x, y, z in zip(a.data, b.data, result.data, strict=True):
            exact = true(Fraction(float(x)), Fraction(float(y)))
            assert abs(exact - Fraction(float(z))) <= Fraction(result.error) * abs(Fraction(float(z)))
    assert values.add(a, one_sign) is None  # cancellation of an inexact constant has no relative bound
    assert values.divide(a, Const(np.array(8.0), "float64")).error == 0.0  # type: ignore[union-attr]


def test_cancelling_constants_are_left_to_the_graph() -> None:
    graph = load_bytes(
        bytes_of(
            "p = Add(a, b) d = Add(p, c) y = Add(x, d)",
            a=weights(3),
            b=weights(3, seed=1),
            c=weights(3, seed=2),
        ),
        "m",
    ).graph
    true = [
        Fraction(float(u)) + Fraction(float(v)) + Fraction(float(w))
        for u, v, w in zip(weights(3), weights(3, seed=1), weights(3, seed=2), strict=True)
    ]
    zeros = np.full((1, 3), Fraction(0), dtype=object)
    error = max(n.weight_error for n in graph.nodes)
    for found, wanted in zip(evaluate(graph, zeros)[0], true, strict=True):
        assert abs(found - wanted) <= Fraction(error) * 4


@pytest.mark.parametrize(
    ("body", "stored", "error", "message"),
    [
        ("y = RandomNormalLike(x)", {}, ModelUnsupported, "inference mode"),
        ("y = NonMaxSuppression(x, x)", {}, ModelUnsupported, "fixed shapes"),
        ("s = SequenceConstruct(x) y = ConcatFromSequence<axis=0>(s)", {}, ModelUnsupported, "sequences"),
        ("y = Celu<alpha=-1.0>(x)", {}, ModelUnsupported, "positive"),
        ("y = Pow(c, x)", {"c": weights(3)}, ModelUnsupported, "Exp"),
        ("y = Mod(x, c)", {"c": weights(3)}, ModelUnsupported, "depends on the network input"),
        ("n = IsNaN(x) y = Where(n, c, c)", {"c": weights(3)}, ModelUnsupported, "test for NaN"),
        ("y = IsInf(x)", {}, ModelUnsupported, "infinities"),
        ("y = Add(x, c)", {"c": np.float32([1, -np.inf, 2])}, ModelUnsupported, "minus infinity"),
        ("a = Add(x, c) y = Exp(a)", {"c": np.float32([1, -np.inf, 2])}, ModelUnsupported, "Softmax"),
        ("y = Div(x, c)", {"c": np.zeros(3, np.float32)}, ModelInvalid, "division by zero"),
        ("y = Add(x, c)", {"c": np.array([1, np.nan, 2], np.float32)}, ModelInvalid, "NaN"),
        ("y = MatMul(x, c)", {"c": np.full((3, 1), np.inf, np.float32)}, ModelInvalid, "infinity"),
        ("y = MatMul(x, c)", {"c": weights(4, 2)}, ModelInvalid, "does not fit"),
        ("y = Add(x, c)", {"c": weights(2)}, ModelInvalid, "broadcast"),
        ("y = Add(x, nowhere)", {}, ModelInvalid, "'nowhere' before it is computed"),
        ("y = Reshape(x, s)", {"s": np.array([4])}, ModelInvalid, "cannot reshape"),
        ("y = Reshape(x, x)", {}, ModelUnsupported, "constant"),
        ("y = Gather<axis=1>(x, i)", {"i": np.array([3])}, ModelInvalid, "indices"),
        ("y = Cast<to=10>(x)", {}, ModelUnsupported, "rounds"),
        ("y = Cast<to=2>(x)", {}, ModelUnsupported, "wrap around"),
        ("y = Cast<to=8>(x)", {}, ModelUnsupported, "only numbers"),
        ("y = Expand(x, s)", {"s": np.array([1 << 40, 3])}, LimitExceeded, "over the limit"),
        ("y = Clip(x, a, b)", {"a": np.float32(1), "b": np.float32(0)}, ModelUnsupported, "wrong order"),
        ("y = Max(x, z) z = Relu(x)", {}, ModelInvalid, "before it is computed"),
        ("y, m = Dropout(x) z = Cast<to=1>(m)", {}, ModelUnsupported, "outputs"),
        ('y = Conv<auto_pad="ODD">(x, c)', {"c": weights(1, 1, 1)}, ModelInvalid, "rank"),
    ],
)  # fmt: skip
def test_bad_models(body: str, stored: dict[str, Any], error: type[SureboundError], message: str) -> None:
    outputs = "float[] z" if "Dropout" in body else "float[] y"
    with pytest.raises(error, match=message) as found:
        load_bytes(bytes_of(body, outputs=outputs, **stored), "bad.onnx")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("float[1,K] x", ModelInvalid, r"dimension 1 \('K'\) is dynamic"),
        ("float[] x", ModelInvalid, "no tensor shape"),
        ("int64[3] x", ModelUnsupported, "int64"),
    ],
)
def test_bad_inputs(inputs: str, error: type[SureboundError], message: str) -> None:
    with pytest.raises(error, match=message):
        load_bytes(bytes_of("y = Relu(x)", inputs=inputs), "bad.onnx")


@pytest.mark.parametrize("opset", [6, 999])
def test_unknown_opset(opset: int) -> None:
    with pytest.raises(ModelInvalid, match="opset"):
        load_bytes(bytes_of("y = Relu(x)", opset=opset), "bad.onnx")


def test_malformed_files_never_show_a_traceback() -> None:
    good = residual().SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(good)
        for at in rng.integers(0, len(bad), rng.integers(1, 6)):
            bad[at] = rng.integers(256)
        try:
            with np.errstate(all="ignore"):
                load_bytes(
                    bytes(bad[: rng.integers(1, len(bad) + 1)] if rng.random() < 0.3 else bad), "fuzz.onnx"
                )
        except SureboundError as error:
            assert "\n" not in str(error)
    for junk in (b"", b"\x00" * 50, b"hello"):
        with pytest.raises(ModelInvalid):
            load_bytes(junk, "junk.onnx")


def test_files(tmp_path: Path) -> None:
    data = residual().SerializeToString()
    (tmp_path / "a.onnx").write_bytes(data)
    (tmp_path / "b.onnx.gz").write_bytes(gzip.compress(data))
    (tmp_path / "cut.onnx.gz").write_bytes(gzip.compress(data)[:-20])
    (tmp_path / "fake.onnx.gz").write_bytes(data)
    assert (
        load(tmp_path / "a.onnx").sha256
        == load(tmp_path / "b.onnx").sha256
        == load(tmp_path / "b.onnx.gz").sha256
    )
    for name, message in (
        ("none.onnx", "no such file"), ("cut.onnx.gz", "truncated"), ("fake.onnx.gz", "gzip"),
        (".", "directory"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=message):
            load(tmp_path / name)
    for limits in (
        Limits(file_bytes=100),
        Limits(nodes=2),
        Limits(tensor_bytes=64),
        Limits(decompressed_bytes=100),
    ):
        name = "b.onnx.gz" if limits.decompressed_bytes == 100 else "a.onnx"
        with pytest.raises(LimitExceeded, match="limit"):
            load(tmp_path / name, limits=limits)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * 5_000_000))
    with pytest.raises(LimitExceeded):
        read_bytes(tmp_path / "bomb.gz", Limits(decompressed_bytes=1_000_000))


def external(tmp_path: Path, location: str) -> Path:
    proto = tiny("y = Add(x, c)")
    tensor = numpy_helper.from_array(weights(3), "c")
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4"), ("length", "12")):
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    proto.graph.initializer.append(tensor)
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "w.bin").write_bytes(b"\0" * 4 + data)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4 + data)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(data[:8])
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_external_data_inside(tmp_path: Path) -> None:
    model = load(external(tmp_path, "sub/w.bin"))
    np.testing.assert_array_equal(evaluate(model.graph, np.zeros((1, 3)))[0], weights(3))
    assert load_bytes(model.onnx_bytes, "inlined").graph.output_size == 3


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "link.bin", "none.bin", "short.bin", "", "sub/../../secret.bin"],
)
def test_external_data_outside(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelInvalid, match="external data"):
        load(external(tmp_path, location))


def test_unsupported_and_describe(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    proto = tiny("h = MatMul(x, w) s = RandomNormalLike(h) y = Bernoulli(s)", w=weights(3, 2))
    proto.graph.node.append(helper.make_node("Odd", ["x"], ["z"], domain="custom"))
    onnx.save(proto, file)
    assert unsupported(file) == [("RandomNormalLike", "s"), ("Bernoulli", "y")]
    about = describe(file)
    assert (about.parameters, about.operators["MatMul"], about.inputs) == (6, 1, (("x", "1x3", "float32"),))
    with pytest.raises(ModelUnsupported, match="in all: Bernoulli, RandomNormalLike"):
        load(file)


def test_tournament_order() -> None:
    """Five candidates: (0, 1), (2, 3), then (01, 23), then (0123, 4); even minus odd enters the RELU."""
    graph = load_bytes(bytes_of("y = ReduceMax<axes=[1]>(x)", inputs="float[1,5] x"), "m").graph
    assert [n.op for n in graph.nodes if n.op is Op.RELU] == [Op.RELU] * 4
    x = np.array([[1.0, 10.0, 100.0, 1000.0, 10000.0]])
    found = evaluate_nodes(graph, x)
    assert [found[n.inputs[0]].item() for n in graph.relus] == [-9.0, -900.0, -990.0, -9000.0]
