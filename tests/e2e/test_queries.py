"""VNN-LIB 2.0 through the solver interface of the standard's chapter 5, from files to the printed answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import e2e_models as nets
import numpy as np
import onnx
import pytest

pytest.importorskip("vnnlib", reason="the official VNN-LIB 2.0 parser is not installed")

Verify = Callable[..., "CompletedProcess[str]"]
Values = dict[str, Any]

HEAD = "(vnnlib-version <2.0>)\n"
ONE = HEAD + "(declare-network f (declare-input X {t} [1,1]) (declare-output Y {t} [1,1]))\n"
BOX = "(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0)))\n"
SECOND = "(declare-network g {r} (declare-input A {t} [1,1]) (declare-output B {t} [1,1]))\n"
TWO = ONE + SECOND + BOX + "(assert (and (>= A[0,0] -1.0) (<= A[0,0] 1.0)))\n"
SAME = "(assert (== A[0,0] X[0,0]))\n"
HIDDEN = (
    HEAD + "(declare-network f (declare-input X {t} [1,1])"
    ' (declare-hidden H {t} [1,2] "h0") (declare-output Y {t} [1,1]))\n' + BOX
)
PORTS = (
    HEAD + "(declare-network f (declare-input S {t} [1,2]) (declare-input T {t} [1])"
    " (declare-output P {t} [1,2]) (declare-output Q {t} [1,1]))\n"
    "(assert (and (>= S[0,0] -1.0) (<= S[0,0] 1.0) (>= S[0,1] 0.25) (<= S[0,1] 0.5)))\n"
    "(assert (and (>= T[0] 0.0) (<= T[0] 0.5)))\n"
)


@dataclass(frozen=True)
class Query:
    """A query with its answer.

    Attributes:
        text: the query; ``{t}`` is the element type, ``{r}`` the relation of the second network.
        answer: the verdict.
        models: network name -> how to make its file.
        holds: for ``sat``: whether the printed values violate, decided here once more.
        theories: those of the standard's chapter 4 that the query needs.
    """

    text: str
    answer: str
    models: dict[str, Callable[[Path], Path]]
    holds: Callable[[Values], bool] = lambda _: True
    theories: tuple[str, ...] = ()
    relation: str = field(default="")


ABS = {"f": nets.absolute}
ABS_AND_DOUBLE = {"f": nets.absolute, "g": lambda path: nets.absolute(path, 2.0)}
QUERIES = {
    "bound unsat": Query(
        ONE + BOX + "(assert (>= Y[0,0] 1.001))", "unsat", ABS, theories=("BND", "SNET", "SIO", "NH", "SNC")
    ),
    "bound sat": Query(
        ONE + BOX + "(assert (>= Y[0,0] 0.75))", "sat", ABS, lambda v: v["Y"][0, 0] >= 0.75, ("BND",)
    ),
    "disjunction sat": Query(
        ONE + BOX + "(assert (or (<= Y[0,0] -0.5) (and (>= Y[0,0] 0.5) (<= X[0,0] -0.5))))",
        "sat",
        ABS,
        lambda v: v["Y"][0, 0] >= 0.5 and v["X"][0, 0] <= -0.5,
    ),
    "input and output unsat": Query(
        ONE + BOX + "(assert (>= X[0,0] (+ (* 0.5 Y[0,0]) 0.51)))", "unsat", ABS, theories=("LIN", "MNC")
    ),
    "two networks unsat": Query(
        TWO + SAME + "(assert (>= Y[0,0] (+ B[0,0] 0.001)))", "unsat", ABS_AND_DOUBLE, theories=("MNET",)
    ),
    "two networks sat": Query(
        TWO + SAME + "(assert (>= B[0,0] (+ Y[0,0] 0.5)))",
        "sat",
        ABS_AND_DOUBLE,
        lambda v: v["A"] == v["X"] and v["B"][0, 0] >= v["Y"][0, 0] + 0.5,
        ("MNET",),
    ),
    "networks of different form sat": Query(
        TWO + SAME + "(assert (>= Y[0,0] (+ B[0,0] 0.5)))",
        "sat",
        {"f": nets.absolute, "g": nets.positive},
        lambda v: v["X"][0, 0] <= -0.5,
        ("MNET",),
    ),
    "equal networks unsat": Query(
        TWO + "(assert (>= A[0,0] X[0,0]))\n(assert (<= B[0,0] (- Y[0,0] 0.125)))",
        "unsat",
        {"f": nets.positive},
        theories=("MENET",),
        relation="(equal-to f)",
    ),
    "equal networks sat": Query(
        TWO + "(assert (>= A[0,0] X[0,0]))\n(assert (<= B[0,0] (- Y[0,0] 0.125)))",
        "sat",
        ABS,
        lambda v: v["A"][0, 0] >= v["X"][0, 0] and v["B"][0, 0] <= v["Y"][0, 0] - 0.125,
        ("MENET",),
        relation="(equal-to f)",
    ),
    "isomorphic networks unsat": Query(
        TWO + SAME + "(assert (>= Y[0,0] (+ B[0,0] 0.001)))",
        "unsat",
        ABS_AND_DOUBLE,
        theories=("MINET",),
        relation="(isomorphic-to f)",
    ),
    "isomorphic networks sat": Query(
        TWO + SAME + "(assert (>= B[0,0] (+ Y[0,0] 0.5)))",
        "sat",
        ABS_AND_DOUBLE,
        lambda v: v["B"][0, 0] >= v["Y"][0, 0] + 0.5,
        ("MINET",),
        relation="(isomorphic-to f)",
    ),
    "hidden unsat": Query(
        HIDDEN + "(assert (>= H[0,1] (+ Y[0,0] 0.001)))", "unsat", ABS, theories=("H", "OUTC", "MNC")
    ),
    "hidden sat": Query(
        HIDDEN + "(assert (>= H[0,1] 0.5))\n(assert (<= H[0,0] Y[0,0]))",
        "sat",
        ABS,
        lambda v: v["H"][0, 1] >= 0.5 and v["X"][0, 0] <= -0.5,
        ("H", "OUTC"),
    ),
    "product of inputs and outputs unsat": Query(
        ONE + BOX + "(assert (>= (* X[0,0] Y[0,0]) 1.001))", "unsat", ABS, theories=("POLY",)
    ),
    "product of inputs and outputs sat": Query(
        ONE + BOX + "(assert (<= (* 2.0 X[0,0] Y[0,0]) (- 0.5)))",
        "sat",
        ABS,
        lambda v: v["X"][0, 0] <= -0.5,
        ("POLY",),
    ),
    "powers unsat": Query(
        ONE + BOX + "(assert (>= (- (* Y[0,0] Y[0,0]) (* X[0,0] X[0,0])) 0.05))", "unsat", ABS
    ),
    "factors sat": Query(
        ONE + BOX + "(assert (<= (* (- Y[0,0] 0.25) (- Y[0,0] 0.5) (+ X[0,0] 2.0)) -0.01))",
        "sat",
        ABS,
        lambda v: 0.25 < v["Y"][0, 0] < 0.5,
    ),
    "product of hidden values unsat": Query(HIDDEN + "(assert (>= (* H[0,0] H[0,1]) 0.1))", "unsat", ABS),
    "product of hidden values sat": Query(
        HIDDEN + "(assert (>= (* H[0,1] H[0,1] Y[0,0]) 0.5))", "sat", ABS, lambda v: v["X"][0, 0] <= -0.79
    ),
    "products across networks unsat": Query(
        TWO + SAME + "(assert (>= (* 4.0 Y[0,0] Y[0,0]) (+ (* B[0,0] B[0,0]) 0.1)))",
        "unsat",
        ABS_AND_DOUBLE,
        relation="(isomorphic-to f)",
    ),
    "products across networks sat": Query(
        TWO + SAME + "(assert (<= (* Y[0,0] Y[0,0]) (* 0.5 A[0,0] B[0,0])))\n(assert (>= X[0,0] 0.5))",
        "sat",
        ABS_AND_DOUBLE,
        lambda v: v["A"] == v["X"] and v["X"][0, 0] >= 0.5,
    ),
    "several ports unsat": Query(
        PORTS + "(assert (<= P[0,1] 0.249))\n(assert (>= Q[0,0] 0.0))",
        "unsat",
        {"f": nets.two_by_two},
        theories=("MIO",),
    ),
    "several ports sat": Query(
        PORTS + "(assert (>= P[0,1] 0.75))\n(assert (>= Q[0,0] 0.75))",
        "sat",
        {"f": nets.two_by_two},
        lambda v: v["P"][0, 1] >= 0.75 and v["Q"][0, 0] >= 0.75,
        ("MIO",),
    ),
}


def written(query: Query, folder: Path, element: str) -> list[str]:
    """The files of a query, as arguments of ``verify verify``."""
    path = folder / "q.vnnlib"
    path.write_text(query.text.format(t=element, r=query.relation), encoding="utf-8")
    given = [f"{name}={make(folder / f'{name}.onnx')}" for name, make in query.models.items()]
    return [str(path), *(word for pair in given for word in ("--network", pair))]


def replayed(query: Query, folder: Path, values: Values) -> Values:
    """Outputs and hidden tensors, computed again by onnxruntime from the printed inputs."""
    if "S" in values:
        p, q = nets.replay(folder / "f.onnx", {"a": values["S"], "b": values["T"]}, "p", "q")
        return {"P": p, "Q": q}
    hidden = ["h0"] if "H" in values else []
    y, *h = nets.replay(folder / "f.onnx", {"x": values["X"]}, "y", *hidden)
    found = {"Y": y, **dict(zip(["H"], h, strict=False))}
    if "A" in values:
        file = "f.onnx" if "equal" in query.relation else "g.onnx"
        (found["B"],) = nets.replay(folder / file, {"x": values["A"]}, "y")
    return found


@pytest.mark.parametrize("element", ["real", "float32"])
@pytest.mark.parametrize("name", QUERIES)
def test_query(verify: Verify, tmp_path: Path, name: str, element: str) -> None:
    query = QUERIES[name]
    arguments = written(query, tmp_path, element)
    done = verify("verify", *arguments, "--timeout", "60", "--certificate", "c.sbcert")
    if query.answer == "unsat":
        assert done.stdout == "unsat\n"
        assert f"proved at level {element}\n" in done.stderr
    else:
        printed = nets.assignment(done.stdout)
        assert list(printed) == [
            w for w in "XHYABSTPQ" if f" {w} {element}" in (tmp_path / "q.vnnlib").read_text()
        ]
        assert {kind for kind, _ in printed.values()} == {element}
        values = {variable: tensor for variable, (_, tensor) in printed.items()}
        for variable, again in replayed(query, tmp_path, values).items():
            assert again.shape == values[variable].shape
            assert np.array_equal(again, values[variable].astype(np.float32)), variable
        assert query.holds(values)
    models = [word if word != "--network" else "--model" for word in arguments[1:]]
    checked = verify("check", "c.sbcert", *models, "--property", "q.vnnlib")
    assert checked.stdout == query.answer + "\n"
    assert f"level {element}" in checked.stderr


def test_claimed_theories_are_the_tested_ones(verify: Verify) -> None:
    claimed: set[str] = set()
    for word in ("hidden-node", "multiple-input-output", "multiple-network", "multiple-node-comparison"):
        claimed |= set(verify("supports", f"--{word}-theories").stdout.split())
    claimed |= set(verify("supports", "--arithmetic-complexity-theories").stdout.split())
    assert claimed == {t for q in QUERIES.values() for t in q.theories}
    assert verify("supports", "--onnx-element-types").stdout.split() == ["real", "float32"]
    assert verify("supports", "--vnnlib-versions").stdout.split() == ["1.0", "2.0"]
    assert verify("supports", "--serialise-assignments").stdout == "true\n"
    # the form that the standard's own example uses
    assert verify("supports", "--multiple-inputs-output-theories").stdout.split() == ["SIO", "MIO"]


@pytest.mark.parametrize("element", ["real", "float32"])
@pytest.mark.parametrize(("condition", "answer"), [("(> {} 1.0)", "unsat"), ("(>= {} 1.0)", "sat")])
def test_strictness_decides_ties_of_products(
    verify: Verify, tmp_path: Path, condition: str, answer: str, element: str
) -> None:
    query = Query(ONE + BOX + f"(assert {condition.format('(* X[0,0] X[0,0] X[0,0])')})", answer, ABS)
    done = verify("verify", *written(query, tmp_path, element), "--max-domains", "2000")
    # at level float32 ties are left open: exact numbers never overflow, the network's might
    assert done.stdout.split()[0] in ((answer,) if element == "real" else (answer, "unknown"))


OPEN = ONE + "(assert (>= X[0,0] 0.5))\n"


def test_inputs_without_bounds(verify: Verify, tmp_path: Path) -> None:
    """Counterexamples count wherever they are; nothing can be proved."""
    found = verify("verify", *written(Query(OPEN + "(assert (>= Y[0,0] 1.0))", "", ABS), tmp_path, "float32"))
    values = nets.assignment(found.stdout)
    assert values["X"][1][0, 0] >= 1.0
    query = Query(OPEN + "(assert (<= Y[0,0] 0.25))", "", ABS)
    none = verify("verify", *written(query, tmp_path, "real"), "--certificate", "c.sbcert")
    assert none.stdout == "unknown\n"
    assert "some inputs have no bounds" in none.stderr
    assert not (tmp_path / "c.sbcert").exists()


@pytest.mark.parametrize(("condition", "answer"), [("(>= Y[1] 4)", "unsat"), ("(<= (* Y[0] Y[1]) 6)", "sat")])
def test_outputs_of_integer_types(verify: Verify, tmp_path: Path, condition: str, answer: str) -> None:
    """The shape of a 2x3 input: constant, and of type int64."""

    def shape(path: Path) -> Path:
        inputs, outputs = [nets.tensor("x", [2, 3])], [nets.tensor("y", [2], onnx.TensorProto.INT64)]
        return nets.save(path, [onnx.helper.make_node("Shape", ["x"], ["y"])], inputs, outputs)

    box = "".join(
        f"(assert (and (>= X[{i},{j}] 0.0) (<= X[{i},{j}] 1.0)))\n" for i in (0, 1) for j in range(3)
    )
    net = "(declare-network f (declare-input X float32 [2,3]) (declare-output Y int64 [2]))\n"
    query = Query(HEAD + net + box + f"(assert {condition})", answer, {"f": shape})
    done = verify("verify", *written(query, tmp_path, ""), "--serialise-assignments", "values")
    assert done.stdout == answer + "\n"
    if answer == "sat":
        stored = onnx.numpy_helper.to_array(onnx.load_tensor(tmp_path / "values" / "Y.pb"))
        assert stored.dtype == np.int64 and stored.tolist() == [2, 3]
        assert verify("verify", *written(query, tmp_path, "")).stdout.endswith("Y int64 [2]\n2\n3\n")


def test_isomorphic_networks_of_different_types(refuses: Callable[..., str], tmp_path: Path) -> None:
    """The standard allows the declaration (rule NetworkIso); float16 itself is not analysed."""
    query = Query(
        TWO.format(t="float32", r="{r}").replace("A float32", "A float16").replace("B float32", "B float16"),
        "",
        ABS_AND_DOUBLE,
        relation="(isomorphic-to f)",
    )
    query = Query(query.text + "(assert (>= Y[0,0] 0.5))", "", ABS_AND_DOUBLE, relation=query.relation)
    assert "float16 is declared" in refuses("verify", *written(query, tmp_path, ""))


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("(> Y[0,0] 1.0)", "unsat"),
        ("(>= Y[0,0] 1.0)", "sat"),
        ("(< Y[0,0] 0.0)", "unsat"),
        ("(<= Y[0,0] 0.0)", "sat"),
    ],
)
def test_strictness_decides_ties(verify: Verify, tmp_path: Path, condition: str, answer: str) -> None:
    """|x| on [-1, 1] reaches both ends of [0, 1]; nothing but '<' against '<=' tells the cases apart."""
    query = Query(ONE + BOX + f"(assert {condition})", answer, ABS)
    done = verify("verify", *written(query, tmp_path, "real"), "--timeout", "60")
    assert done.stdout.split()[0] == answer


def test_a_strict_input_bound_leaves_the_end_out(verify: Verify, tmp_path: Path) -> None:
    """y <= 0 only at x = 0, and without that point there is no counterexample."""
    answers = []
    for op in (">=", ">"):
        text = ONE + f"(assert (and ({op} X[0,0] 0.0) (<= X[0,0] 1.0)))\n(assert (<= Y[0,0] 0.0))"
        arguments = written(Query(text, "", ABS), tmp_path, "real")
        answers.append(verify("verify", *arguments, "--max-domains", "500").stdout.split()[0])
    assert answers[0] == "sat"
    assert answers[1] in ("unsat", "unknown")


def test_the_element_type_decides_what_is_proved(verify: Verify, tmp_path: Path) -> None:
    """y = w x at x = w: over the reals y > w * w is false by a tie, in float32 the product is rounded.

    The w taken is one that rounds down, so no counterexample is seen; but the analysis of level float32
    grants every operation its half unit in either direction.
    """
    candidates = [np.float32(v) for v in (0.1, 0.2, 0.3, 0.6, 0.7, 0.9)]
    w = next(v for v in candidates if float(v * v) < float(v) * float(v))  # the right is exact in float64
    text = ONE + f"(assert (== X[0,0] {float(w):.60f}))\n(assert (> Y[0,0] {float(w) * float(w):.60f}))"
    query = Query(text, "", {"f": lambda path: nets.dense(path, [([[w]], [0.0])])})
    assert verify("verify", *written(query, tmp_path, "real")).stdout == "unsat\n"
    single = verify("verify", *written(query, tmp_path, "float32"), "--max-domains", "100")
    assert single.stdout == "unknown\n"


@pytest.mark.parametrize("element", ["real", "float32"])
def test_the_plain_command_asks_about_the_declared_type(verify: Verify, tmp_path: Path, element: str) -> None:
    query = QUERIES["bound unsat"]
    written(query, tmp_path, element)
    files = (tmp_path / "f.onnx", tmp_path / "q.vnnlib")
    assert f"proved at level {element}\n" in verify(*files).stderr
    other = {"real": "float32", "float32": "real"}[element]
    assert f"proved at level {other}\n" in verify(*files, "--semantics", other).stderr
    (tmp_path / "list.csv").write_text("f.onnx,q.vnnlib,20\n", encoding="utf-8")
    verify("batch", "list.csv", "--out", "out.csv", "--jobs", "1")
    assert f",{element}," in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_serialised_assignments(verify: Verify, tmp_path: Path) -> None:
    query = QUERIES["hidden sat"]
    done = verify("verify", *written(query, tmp_path, "float32"), "--serialise-assignments", "values")
    assert done.stdout == "sat\n"
    values = {
        p.stem: onnx.numpy_helper.to_array(onnx.load_tensor(p)) for p in (tmp_path / "values").iterdir()
    }
    assert {name: (v.dtype, v.shape) for name, v in values.items()} == {
        "X": (np.float32, (1, 1)),
        "H": (np.float32, (1, 2)),
        "Y": (np.float32, (1, 1)),
    }
    again = replayed(query, tmp_path, values)
    assert all(np.array_equal(v, values[name]) for name, v in again.items())


def mistake(name: str, edit: Callable[[list[str]], list[str]], element: str = "float32") -> Any:
    return lambda folder: edit(written(QUERIES[name], folder, element))


def without_last(args: list[str]) -> list[str]:
    return args[:-2]


def same(args: list[str]) -> list[str]:
    return args


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            mistake("two networks sat", without_last),
            "network 'g' is declared but not given; add --network g=",
        ),
        (mistake("bound sat", lambda a: [*a, "--network", f"g={a[2][2:]}"]), "network 'g' is not declared"),
        (mistake("equal networks sat", lambda a: [*a, "--network", f"g={a[2][2:]}"]), "declared equal-to"),
        (mistake("bound sat", lambda a: [*a, *a[1:]]), "given twice"),
        (
            mistake("bound sat", same, "float64"),
            "float64 is declared, and the analysis is sound for real and",
        ),
        (mistake("bound sat", same, "float16"), "float16 is declared"),
        (mistake("bound sat", same, "quaternion"), "q.vnnlib:2:37: X has element type 'quaternion'"),
    ],
)
def test_errors_that_the_standard_demands(
    refuses: Callable[..., str], tmp_path: Path, arguments: Callable[[Path], list[str]], says: str
) -> None:
    assert says in refuses("verify", *arguments(tmp_path))


def test_a_model_of_another_type_than_declared(refuses: Callable[..., str], tmp_path: Path) -> None:
    query = Query(
        ONE + BOX + "(assert (>= Y[0,0] 0.75))",
        "",
        {"f": lambda path: nets.dense(path, [([[1.0]], [0.0])], element=nets.DOUBLE)},
    )
    line = refuses("verify", *written(query, tmp_path, "float32"))
    assert "input X has element type float32 in the property but 'x' is float64 in the model" in line


def test_networks_that_are_not_isomorphic(refuses: Callable[..., str], tmp_path: Path) -> None:
    models = {"f": nets.absolute, "g": nets.positive}
    query = Query(QUERIES["isomorphic networks sat"].text, "", models, relation="(isomorphic-to f)")
    assert "declared isomorphic, but their graphs differ" in refuses(
        "verify", *written(query, tmp_path, "real")
    )
