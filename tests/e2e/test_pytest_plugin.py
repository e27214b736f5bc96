"""The pytest plugin as its users meet it: a test suite of their own, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.errors import BadInput
from verifier.testing import (
    NotCertified,
    NotLipschitz,
    Undecided,
    UndecidedWarning,
    assert_certified,
    assert_lipschitz,
)

pytest_plugins = "pytester"

# y = (x0 - x1, x1 - x0): class 0 where x0 > x1, at l1 distance x0 - x1 and linf distance half of it
WEIGHT = [[1.0, -1.0], [-1.0, 1.0]]
SUITE = """
    import numpy as np
    import pytest
    from verifier.testing import assert_certified, assert_lipschitz

    def test_holds():
        assert_certified("net.onnx", [1.0, 0.0], 0, eps=0.25)

    def test_breaks():
        assert_certified("net.onnx", np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1], eps=0.75)

    @pytest.mark.certified(eps="0.25", norm=1)
    def test_presets():
        assert_certified("net.onnx", [1.0, 0.0], 0)

    @pytest.mark.lipschitz(norm="inf")
    def test_stretch():
        assert_lipschitz("net.onnx", 2.5)

    def test_plain():
        pass
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return linear(tmp_path / "net.onnx")


def linear(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array(WEIGHT, dtype=np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_suite_with_and_without_xdist(pytester: pytest.Pytester, processes: str) -> None:
    linear(pytester.path / "net.onnx")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-n", processes, "-p", "no:cacheprovider", "--junitxml=out.xml")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*class 0) is not robust: class 1 at linf distance 0.*",
            "*scores there: *replayed by *onnxruntime*",
            "*input: [*",
            "*class 1) is not robust: class 0 at linf distance 0.*",
            "*0 of 2 samples proved, 2 falsified, 0 undecided*",
            "*surebound: proofs*",
            "falsified *test_breaks: class constant within linf distance 0.75*",
            "4 assertions: 3 proved, 1 falsified, 0 undecided; *",
        ]
    )
    # outcomes are properties of their tests in a report for machines, too
    text = (pytester.path / "out.xml").read_text(encoding="utf-8")
    assert text.count('name="surebound"') == 4


def test_markers_select(pytester: pytest.Pytester) -> None:
    linear(pytester.path / "net.onnx")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-m", "certified or lipschitz", "--strict-markers")
    result.assert_outcomes(passed=2, deselected=3)


def test_a_suite_that_asserts_nothing_sees_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*surebound: proofs*")


def test_loading_the_plugin_costs_nothing() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules)\nimport verifier.testing.plugin\n"
        "print(*sorted(m for m in set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "onnx", "onnxruntime", "scipy", "torch", "bounds", "sdp"}
    assert not heavy.intersection(name.split(".")[0] for name in run.stdout.split())


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("fail", {"failed": 1}), ("skip", {"skipped": 1}), ("warn", {"passed": 1, "warnings": 1})],
)
def test_what_undecided_means(pytester: pytest.Pytester, policy: str, outcome: dict[str, int]) -> None:
    # true by a sixteenth, and one subproblem does not settle it
    hinge(pytester.path / "net.onnx")
    pytester.makepyfile(
        """
        from verifier.testing import assert_certified
        def test_it():
            assert_certified("net.onnx", [0.0, 0.0], 0, eps=1, max_domains=1)
        """
    )
    result = pytester.runpytest_subprocess(f"--surebound-undecided={policy}")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*undecided *class constant within linf distance 1*"])
    if policy == "fail":
        result.stdout.fnmatch_lines(["*is undecided: the domain limit was reached*", "*what would help:*"])


def hinge(path: Path) -> Path:
    """Margin ``2.0625 - |x0 + x1| - |x0 - x1|``: positive on [-1, 1], but loosely bounded at the root."""
    w1 = np.array([[1, -1, 1, -1], [1, -1, -1, 1]], dtype=np.float32)
    w2 = np.array([[-1, 0], [-1, 0], [-1, 0], [-1, 0]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["h"]),
            helper.make_node("MatMul", ["h", "w2"], ["z"]),
            helper.make_node("Add", ["z", "b"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [
            numpy_helper.from_array(w1, "w1"),
            numpy_helper.from_array(w2, "w2"),
            # |x0 + x1| + |x0 - x1| = 2 max(|x0|, |x1|) is at most 2
            numpy_helper.from_array(np.array([2.0625, 0], dtype=np.float32), "b"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("certified(epz=1)", "*has no setting 'epz'; did you mean 'eps'?*"),
        ("certified(0.1)", "*marker 'certified' takes keywords only*"),
        ("lipschitz(color=1)", "*has no setting 'color'; known are norm*"),
    ],
)
def test_wrong_markers(pytester: pytest.Pytester, mark: str, said: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass")
    result = pytester.runpytest_subprocess()
    assert result.ret != 0
    result.stdout.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--surebound-timeout=soon", "*surebound_timeout is 'soon'*"),
        ("--surebound-timeout=-1", "*must be above 0*"),
        ("--surebound-timeout=nan", "*must be above 0*"),
        ("--surebound-undecided=maybe", "*invalid choice*maybe*"),
    ],
)
def test_wrong_options(pytester: pytest.Pytester, option: str, said: str) -> None:
    result = pytester.runpytest_subprocess(option)
    assert result.ret == 4
    result.stderr.fnmatch_lines([said])


def test_wrong_configuration(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nsurebound_undecided = maybe")
    result = pytester.runpytest_subprocess()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*surebound_undecided is 'maybe'; choose one of fail, skip, warn*"])


def test_the_closest_marker_wins(pytester: pytest.Pytester) -> None:
    linear(pytester.path / "net.onnx")
    pytester.makeini("[pytest]\nsurebound_timeout = 5")
    pytester.makepyfile(
        """
        import pytest
        from verifier.testing import assert_certified
        from verifier.testing.settings import resolve
        pytestmark = pytest.mark.certified(eps="0.9", norm=2, timeout=7)

        @pytest.mark.certified(eps="0.1")
        def test_it():
            found = resolve("certified", {"norm": 1, "seed": None})
            assert (found["eps"], found["norm"], found["timeout"], found["seed"]) == ("0.1", 1, 7, 0)
            assert resolve("lipschitz", {})["timeout"] == 5.0
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


# --- the assertions by themselves


def test_a_counterexample_is_attached(net: Path) -> None:
    with pytest.raises(NotCertified) as caught:
        assert_certified(net, [1.0, 0.0], 0, eps="1.5", norm=1)
    (found,) = caught.value.counterexamples
    assert (found.sample, found.label, found.predicted) == (0, 0, 1)
    assert found.x.shape == (2,) and 1 <= found.distance <= 1.5
    assert np.abs(found.x - [1, 0]).sum() <= 1.5
    assert found.scores[1] >= found.scores[0]
    assert caught.value.reports[0].witness is not None


def test_numbers_of_numpy_are_numbers(net: Path) -> None:
    for eps in (np.float32(0.25), np.float64(0.25), np.array(0.25), np.array([0.25, 0.25]), (0.25, 0.25)):
        assert_certified(net, np.array([1.0, 0.0], dtype=np.float32), np.int64(0), eps=eps)  # pyright: ignore
    with pytest.raises(BadInput, match="3 entries"):
        assert_certified(net, [1.0, 0.0], 0, eps=np.zeros(3))  # pyright: ignore


def test_a_misread_sample_is_said_to_be_one(net: Path) -> None:
    with pytest.raises(NotCertified, match="the sample itself is of class 1: it is classified wrongly"):
        assert_certified(net, [0.0, 1.0], 0, eps=0)


def test_a_tie_is_no_proof(net: Path) -> None:
    with pytest.raises((NotCertified, Undecided)):
        assert_certified(net, [0.5, 0.5], 0, eps=0)


def test_clip_is_part_of_the_claim(net: Path) -> None:
    with pytest.raises(NotCertified):
        assert_certified(net, [1.0, 0.0], 0, eps="0.6", clip=(-9, 9))
    # within [0, 1] x1 cannot fall and x0 cannot rise, which does not help; with x1 held at 0 it holds
    assert_certified(net, [1.0, 0.0], 0, eps=["0.9", 0], clip=(0, 1))


@pytest.mark.filterwarnings("error")
def test_a_warning_instead(tmp_path: Path) -> None:
    with pytest.raises(UndecidedWarning):
        assert_certified(hinge(tmp_path / "h.onnx"), [0.0, 0.0], 0, eps=1, max_domains=1, undecided="warn")


def test_more_search_decides_what_was_open(tmp_path: Path) -> None:
    path = hinge(tmp_path / "h.onnx")
    with pytest.raises(Undecided, match="what would help"):
        assert_certified(path, [0.0, 0.0], 0, eps=1, max_domains=1)
    assert_certified(path, [0.0, 0.0], 0, eps=1)


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (([1.0, 0.0], 0), {}, "eps is not given"),
        (([1.0, 0.0], 0), {"eps": -1}, "negative"),
        (([1.0, 0.0], 0), {"eps": float("nan")}, "not a finite number"),
        (([1.0, 0.0], 0), {"eps": 1, "norm": 3}, "norm 3 is not known"),
        (([1.0, 0.0], 0), {"eps": 1, "semantics": "nominal"}, "neither real nor float32"),
        (([1.0, 0.0], 0), {"eps": 1, "undecided": "ignore"}, "choose one of fail, skip, warn"),
        (([1.0, 0.0], 0), {"eps": 1, "clip": (0, 0.5)}, "outside of clip"),
        (([1.0, 0.0], 0), {"eps": 1, "clip": 1}, r"give \(low, high\)"),
        (([1.0, float("nan")], 0), {"eps": 1}, "a NaN or an infinite"),
        (([1.0, "a"], 0), {"eps": 1}, "holds no numbers"),
        (([1.0, 0.0], 2), {"eps": 1}, "the outputs 0 to 1"),
        (([1.0, 0.0], 0.5), {"eps": 1}, "no whole one"),
        (([1.0, 0.0, 2.0], 0), {"eps": 1}, "a sample has 3 numbers"),
        (([[1.0, 0.0]], [0, 1]), {"eps": 1}, "1 samples and y 2 labels"),
        (([], []), {"eps": 1}, "holds no sample"),
        (([[[1.0, 0.0], [1.0, 0.0]]], 0), {"eps": 1}, "give y as a list for a batch"),
    ],
)
def test_bad_input(
    net: Path, arguments: tuple[object, object], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        assert_certified(net, *arguments, **settings)  # pyright: ignore[reportArgumentType]


def test_not_a_model() -> None:
    with pytest.raises(BadInput, match="a int is no model"):
        assert_certified(3, [1.0], 0, eps=1)


def test_lipschitz(net: Path) -> None:
    bound = assert_lipschitz(net, 2.5)  # the matrix has the singular values 2 and 0
    assert 2 <= bound.upper <= 2.5
    with pytest.raises(NotLipschitz, match="a sampled pair of inputs is stretched by"):
        assert_lipschitz(net, 1.0)
    for constant in (-1, float("nan"), float("inf"), "2", True):
        with pytest.raises(BadInput, match="the constant is"):
            assert_lipschitz(net, constant)  # pyright: ignore[reportArgumentType]


def test_lipschitz_undecided(examples: Path) -> None:
    """Between the sampled and the proved bound nothing is claimed."""
    bound = assert_lipschitz(examples / "models" / "pendulum.onnx", 100.0, method="product")
    between = (bound.lower + bound.upper) / 2
    with pytest.raises(Undecided, match="what would help"):
        assert_lipschitz(examples / "models" / "pendulum.onnx", between, method="product")


@pytest.mark.torch
def test_modules() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(WEIGHT).T)
    module = torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.Dropout())
    module.train()
    assert_certified(module, torch.tensor([[[1.0, 0.0]]]), [0], eps=0.25)
    assert_certified(module, torch.tensor([1.0, 0.0], requires_grad=True), 0, eps=0.25)
    assert module.training, "left as it was"
    with pytest.raises(NotCertified) as caught:
        assert_certified(module, torch.tensor([[[1.0, 0.0]]]), torch.tensor([0]), eps=0.75)
    assert caught.value.counterexamples[0].x.shape == (1, 2)
    assert_lipschitz(module, 2.5, example=(1, 2))


@pytest.mark.torch
def test_a_module_whose_export_is_another_function_is_refused() -> None:
    """An export keeps one side of a branch on data: a proof about it would say nothing of the module."""
    torch = pytest.importorskip("torch")

    class Branching(torch.nn.Module):  # pyright: ignore
        def forward(self, x):
            return x if x.sum() > 0.9 else x.flip(-1)

    from bounds.errors import ModelInvalid

    with pytest.raises(ModelInvalid, match="its ONNX export computes another function"):
        assert_certified(Branching(), torch.tensor([1.0, 0.0]), 0, eps=0.25)

    class Dying(torch.nn.Module):  # pyright: ignore
        def forward(self, x):
            return x if x.sum() > 0.9 else x * float("nan")

    with pytest.raises(ModelInvalid, match="output 0 is nan from the module"):
        assert_certified(Dying(), torch.tensor([1.0, 0.0]), 0, eps=0.25)
