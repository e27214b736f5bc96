"""Every bad input is one line: what, where, what to do. In a batch it is that instance's error."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import e2e_models as nets
import numpy as np
import pytest

Verify = Callable[..., "CompletedProcess[str]"]
Refuses = Callable[..., str]

EYE = np.eye(2, dtype=np.float32)
LAYERS = [(EYE, [0.0, 0.0]), (EYE, [0.0, 0.0])]
BOX = [(0, 1), (-1, 1)]
GOOD = nets.vnnlib1(BOX, 2, "(>= Y_0 5)")


def good_model(folder: Path) -> Path:
    return nets.dense(folder / "good.onnx", LAYERS)


def content(folder: Path) -> bytes:
    return good_model(folder).read_bytes()


def packed(folder: Path) -> bytes:
    return gzip.compress(content(folder), mtime=0)


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def folder_instead(path: Path) -> Path:
    path.mkdir()
    return path


def with_weight(value: float) -> Callable[[Path], Path]:
    return lambda f: nets.dense(f / "m.onnx", [([[1.0, value], [0.0, 1.0]], [0.0, 0.0]), LAYERS[1]])


def external(folder: Path) -> Path:
    """A model whose weights are said to lie outside its folder."""
    import onnx

    model = onnx.load(good_model(folder))
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = onnx.TensorProto.EXTERNAL
    entry = stored.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return put(folder / "m.onnx", model.SerializeToString())


# name -> how to make the file, and words of the message
MODELS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "random bytes": (
        lambda f: put(f / "m.onnx", b"hello world" * 50),
        ("m.onnx: not an ONNX file", "export it"),
    ),
    "empty file": (lambda f: put(f / "m.onnx", b""), ("m.onnx: not an ONNX model", "export it")),
    "truncated": (lambda f: put(f / "m.onnx", content(f)[:200]), ("m.onnx: not an ONNX", "export it")),
    "directory": (lambda f: folder_instead(f / "m.onnx"), ("m.onnx' is a directory",)),
    "missing": (lambda f: f / "m.onnx", ("m.onnx' does not exist",)),
    "truncated gz": (lambda f: put(f / "m.onnx.gz", packed(f)[:-12]), ("m.onnx.gz: truncated gzip", "again")),
    "gz by name only": (
        lambda f: put(f / "m.onnx.gz", content(f)),
        ("m.onnx.gz: not a valid gzip", "rename it"),
    ),
    "gz with a wrong checksum": (
        lambda f: put(f / "m.onnx.gz", packed(f)[:-8] + b"\1\2\3\4" + packed(f)[-4:]),
        ("m.onnx.gz: not a valid gzip", "CRC", "compress it again"),
    ),
    "unsupported operator": (
        lambda f: nets.dense(f / "m.onnx", LAYERS, last="Bernoulli"),
        ("unsupported operator Bernoulli at node 'act1'", "verify inspect"),
    ),
    "unknown operator": (
        lambda f: nets.dense(f / "m.onnx", LAYERS, last="Frobnicate"),
        ("unsupported operator Frobnicate at node 'act1'", "replace it"),
    ),
    "dynamic shape": (
        lambda f: nets.dense(f / "m.onnx", LAYERS, width="M"),
        ("m.onnx: input 'x': dimension 1 ('M') is dynamic", "fixed shapes"),
    ),
    "NaN weight": (with_weight(float("nan")), ("node 'dense0': weight contains NaN", "export")),
    "infinite weight": (with_weight(float("inf")), ("node 'dense0': weight contains NaN or inf", "export")),
    "external data elsewhere": (external, ("m.onnx: ", "external", "w0")),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(refuses: Refuses, tmp_path: Path, name: str) -> None:
    make, says = MODELS[name]
    put(tmp_path / "p.vnnlib", GOOD.encode())
    message = refuses(make(tmp_path), "p.vnnlib")
    assert all(words in message for words in says), message


def test_inspect_shows_what_is_wrong(verify: Verify, refuses: Refuses, tmp_path: Path) -> None:
    """A file that is an ONNX model is shown, with the reason; any other is refused."""
    for name in ("unsupported operator", "dynamic shape", "NaN weight", "external data elsewhere"):
        make, says = MODELS[name]
        assert all(words in verify("inspect", make(tmp_path)).stdout for words in says)
    for name in ("random bytes", "truncated", "truncated gz"):
        make, says = MODELS[name]
        (tmp_path / "m.onnx").unlink(missing_ok=True)
        assert all(words in refuses("inspect", make(tmp_path)) for words in says)


def literal(text: str) -> bytes:
    return nets.vnnlib1(BOX, 2, f"(>= Y_0 {text})").encode()


TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1,{n}]) (declare-output Y real [1,2]))
"""


def query(assertion: str, n: int = 2) -> bytes:
    bounds = "".join(f"(assert (and (>= X[0,{i}] 0.0) (<= X[0,{i}] 1.0)))\n" for i in range(n))
    return (TWO.format(n=n) + bounds + f"(assert {assertion})\n").encode()


PROPERTIES: dict[str, tuple[bytes, str]] = {
    "unknown variable": (literal("Z_3"), "p.vnnlib:9:17: unknown variable or malformed number 'Z_3'"),
    "undeclared output": (literal("Y_7"), "p.vnnlib:9:17: Y_7 is not declared; add (declare-const Y_7 Real)"),
    "wrong arity": (
        nets.vnnlib1([*BOX, (0, 1)], 2, "(>= Y_0 5)").encode(),
        "property declares 3 inputs, model has 2 (x [1,2]); check that the two files belong together",
    ),
    "wrong number of outputs": (
        nets.vnnlib1(BOX, 3, "(>= Y_0 5)").encode(),
        "property declares 3 outputs, model has 2",
    ),
    "huge exponent": (literal("1e999999999"), "p.vnnlib:9:17: number '1e999999999' is too long or too large"),
    "huge literal": (literal("0." + "7" * 5000), "p.vnnlib:9:17: number '0.777"),
    "not a number": (literal("nan"), "malformed number 'nan'"),
    "not UTF-8": (GOOD.encode()[:-3] + b"\xff))\n", "p.vnnlib:9:18: byte 0xff is not UTF-8"),
    "binary": (bytes(range(255, -1, -1)) * 9, "p.vnnlib:1:1: byte 0xff is not UTF-8"),
    "empty": (b" \n", "p.vnnlib: the file is empty; expected a VNN-LIB property"),
    "not closed": (GOOD.encode()[:-3], "p.vnnlib:9:9: parenthesis is never closed; add the missing ')'"),
    "no bound": (
        GOOD.replace("(assert (<= X_1 1))", "").encode(),
        "p.vnnlib: input X_1 has no upper bound, but inputs must lie in a box; add (assert (<= X_1 ...))",
    ),
    "product": (nets.vnnlib1(BOX, 2, "(>= (* Y_0 Y_1) 5)").encode(), "p.vnnlib:9:13: product of two"),
    "truncated gz": (gzip.compress(GOOD.encode())[:-10], "p.vnnlib: truncated gzip data; fetch or compress"),
    "2.0: unknown variable": (query("(>= Q[0] 1.0)"), "p.vnnlib:5:13: Undeclared variable (Q)"),
    "2.0: wrong shape": (
        query("(>= Y[0,0] 5.0)", 3),
        "input X has shape [1,3] in the property but 'x' is [1,2] in the model; correct the declaration",
    ),
    "2.0: index out of range": (query("(>= Y[0,2] 5.0)"), "p.vnnlib:5:"),
    "2.0: huge literal": (query(f"(>= Y[0,0] {'9' * 3000}.0)"), "p.vnnlib:5:20: a number is beyond"),
    "2.0: tiny literal": (query(f"(>= Y[0,0] 0.{'0' * 400}1)"), "p.vnnlib:5:20: a number is beyond"),
    "2.0: huge index": (query("(>= Y[0,99999999999] 5.0)"), "p.vnnlib:5:"),
    "2.0: syntax": (query("(>= Y[0,0] 5.0"), "p.vnnlib:5:24: syntax error"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties(refuses: Refuses, tmp_path: Path, name: str) -> None:
    data, says = PROPERTIES[name]
    if name.startswith("2.0"):
        pytest.importorskip("vnnlib")
    put(tmp_path / "p.vnnlib", data)
    message = refuses(good_model(tmp_path), "p.vnnlib")
    assert says in message


@pytest.mark.parametrize("which", ["model", "property"])
def test_unreadable_files(refuses: Refuses, tmp_path: Path, which: str) -> None:
    """Root may read everything, so there the file is a dangling link, which nobody can open."""
    files = {"model": good_model(tmp_path), "property": put(tmp_path / "p.vnnlib", GOOD.encode())}
    path = files[which]
    if os.geteuid():
        path.chmod(0)
    else:
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    assert path.name in refuses(files["model"], files["property"])


@pytest.mark.parametrize(
    "text",
    [
        nets.vnnlib1([(2, 1), (0, 1)], 2, "(>= Y_0 -5)"),
        nets.vnnlib1(BOX, 2, "(>= X_0 3)", "(>= Y_0 -5)"),
        nets.vnnlib1(BOX, 2, "(or (and (>= X_0 3) (>= Y_0 -5)) (and (<= X_1 -2) (>= Y_0 -5)))"),
    ],
    ids=["lower above upper", "contradiction", "every disjunct empty"],
)
def test_an_empty_input_set_is_unsat_and_stated(verify: Verify, tmp_path: Path, text: str) -> None:
    put(tmp_path / "p.vnnlib", text.encode())
    done = verify(good_model(tmp_path), "p.vnnlib", "--certificate", "c.sbcert")
    assert done.stdout == "unsat\n"
    assert "note: the input set is empty, so nothing can violate the property" in done.stderr
    checked = verify("check", "c.sbcert", "--model", "good.onnx", "--property", "p.vnnlib")
    assert checked.stdout == "unsat\n"
    assert "the input set is empty" in checked.stderr


@pytest.mark.parametrize(("size", "answer"), [("1e1000", "unsat"), ("-1e1000", "sat"), ("1e-1000", "sat")])
def test_numbers_beyond_float64_are_numbers(verify: Verify, tmp_path: Path, size: str, answer: str) -> None:
    put(tmp_path / "p.vnnlib", literal(size))
    assert verify(good_model(tmp_path), "p.vnnlib").stdout.split()[0] == answer


def test_a_box_beyond_float64_has_a_verdict(verify: Verify, tmp_path: Path) -> None:
    put(tmp_path / "p.vnnlib", nets.vnnlib1([(0, "1e400"), (0, 1)], 2, "(<= Y_0 -1)").encode())
    assert verify(good_model(tmp_path), "p.vnnlib", "--max-domains", "50").stdout in ("unsat\n", "unknown\n")


def test_values_beyond_float32_have_a_verdict(verify: Verify, tmp_path: Path) -> None:
    """Weights that are finite, and products that are not."""
    model = nets.dense(tmp_path / "m.onnx", [([[3e38, 0], [3e38, 1]], [0, 0]), LAYERS[1]])
    put(tmp_path / "p.vnnlib", nets.vnnlib1([(1, 1), (1, 1)], 2, "(<= Y_0 1)").encode())
    assert verify(model, "p.vnnlib", "--max-domains", "50").stdout in ("unsat\n", "unknown\n")


@pytest.mark.parametrize("flag", ["--json", "--certificate"])
def test_outputs_that_cannot_be_written(refuses: Refuses, tmp_path: Path, flag: str) -> None:
    put(tmp_path / "p.vnnlib", GOOD.encode())
    files = (good_model(tmp_path), "p.vnnlib", flag)
    assert f"{flag} no/such/x: the directory 'no/such' does not exist; create it" in refuses(
        *files, "no/such/x"
    )
    assert "is a directory; give a file name" in refuses(*files, tmp_path)
    assert "would overwrite an input; give another path" in refuses(*files, "good.onnx")
    if Path("/dev/full").is_char_device():
        assert "/dev/full: cannot be written (No space left on device)" in refuses(*files, "/dev/full")
        assert Path("/dev/full").is_char_device()  # not swapped for a file
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_certificates_that_are_none(refuses: Refuses, tmp_path: Path) -> None:
    put(tmp_path / "p.vnnlib", GOOD.encode())
    question = ("--model", good_model(tmp_path), "--property", "p.vnnlib")
    for data in (b"", b"PK\3\4 nonsense", GOOD.encode()):
        message = refuses("check", put(tmp_path / "c.sbcert", data), *question)
        assert "certificate" in message
    assert "does not exist" in refuses("check", "nowhere.sbcert", *question)


def test_options(refuses: Refuses, tmp_path: Path) -> None:
    put(tmp_path / "p.vnnlib", GOOD.encode())
    files = (good_model(tmp_path), "p.vnnlib")
    assert "Missing argument 'PROPERTY'" in refuses(files[0])
    assert "No such option" in refuses(*files, "--frobnicate")
    assert "--timeout is 'soon'; give a number of seconds" in refuses(*files, "--timeout", "soon")


def test_a_batch_marks_bad_instances_and_goes_on(verify: Verify, tmp_path: Path) -> None:
    put(tmp_path / "p.vnnlib", GOOD.encode())
    good_model(tmp_path)
    lines = ["good.onnx,p.vnnlib,20"]
    for number, (make, _) in enumerate(MODELS.values()):
        place = folder_instead(tmp_path / f"m{number}")
        lines.append(f"{make(place).relative_to(tmp_path)},p.vnnlib,20")
    chosen = ["unknown variable", "wrong arity", "not UTF-8", "truncated gz"]
    for number, name in enumerate(chosen):
        put(tmp_path / f"p{number}.vnnlib", PROPERTIES[name][0])
        lines.append(f"good.onnx,p{number}.vnnlib,20")
    lines.append("good.onnx,p.vnnlib,20")
    put(tmp_path / "list.csv", "\n".join(lines).encode())
    done = verify("batch", "list.csv", "--out", "out.csv", "--json", "r.json", "--jobs", "2", code=2)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        found = {(r["onnx"], r["vnnlib"]): r for r in csv.DictReader(file)}
    bad = [r for r in found.values() if r["verdict"] == "error"]
    assert len(bad) == len(MODELS) + len(chosen)
    assert all(r["note"] and "internal error" not in r["note"] and "\n" not in r["note"] for r in bad)
    assert found["good.onnx", "p.vnnlib"]["verdict"] == "unsat"
    counts = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["counts"]
    assert (counts["unsat"], counts["error"]) == (2, len(bad))
    assert "not run" not in done.stderr
