"""Real instances of several families: never a wrong verdict; the easy ones are decided.

The expected verdicts come from the collection's own ``expected.csv`` (many tools agree, or a
counterexample was confirmed).
"""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from verifier import Options, verify
from verifier.report.model import Report
from verifier.verdict import Semantics, Status

pytestmark = pytest.mark.shared

ACAS = "onnx/ACASXU_run2a_{}_batch_2000.onnx"
EASY = [
    ("acasxu", ACAS.format("1_1"), "vnnlib/prop_1.vnnlib"),
    ("acasxu", ACAS.format("1_1"), "vnnlib/prop_3.vnnlib"),
    ("acasxu", ACAS.format("1_1"), "vnnlib/prop_4.vnnlib"),
    ("acasxu", ACAS.format("5_8"), "vnnlib/prop_1.vnnlib"),
    ("acasxu", ACAS.format("2_1"), "vnnlib/prop_2.vnnlib"),
    ("acasxu", ACAS.format("5_8"), "vnnlib/prop_2.vnnlib"),
    ("acasxu", ACAS.format("3_3"), "vnnlib/prop_9.vnnlib"),
    ("test", "onnx/test_nano.onnx", "vnnlib/test_nano.vnnlib"),
    ("test", "onnx/test_tiny.onnx", "vnnlib/test_tiny.vnnlib"),
    ("test", "onnx/test_small.onnx", "vnnlib/test_small.vnnlib"),
    ("test", "onnx/test_sat.onnx", "vnnlib/test_prop.vnnlib"),
    ("test", "onnx/test_unsat.onnx", "vnnlib/test_prop.vnnlib"),
    ("safenlp", "onnx/ruarobot_perturbations_0.onnx", "vnnlib/ruarobot_hyperrectangle_1973.vnnlib"),
    ("safenlp", "onnx/medical_perturbations_0.onnx", "vnnlib/medical_hyperrectangle_1402.vnnlib"),
    ("rl_benchmarks", "onnx/dubinsrejoin.onnx", "vnnlib/dubinsrejoin_case_unsafe_82.vnnlib"),
    ("rl_benchmarks", "onnx/cartpole.onnx", "vnnlib/cartpole_case_safe_95.vnnlib"),
    ("linearizenn", "onnx/AllInOne_30_30.onnx", "vnnlib/prop_30_30_0.vnnlib"),
]
# wanted: no wrong verdict, within a few hundred subproblems
CAREFUL = [
    ("acasxu", ACAS.format("3_3"), "vnnlib/prop_2.vnnlib"),
    ("rl_benchmarks", "onnx/dubinsrejoin.onnx", "vnnlib/dubinsrejoin_case_unsafe_48.vnnlib"),
    ("tllverifybench", "onnx/tllBench_n=2_N=M=8_m=1_instance_0_3.onnx", "vnnlib/property_N=8_3.vnnlib"),
    ("mnist_fc", "onnx/mnist-net_256x2.onnx", "vnnlib/prop_13_0.03.vnnlib"),
    ("mnist_fc", "onnx/mnist-net_256x2.onnx", "vnnlib/prop_12_0.05.vnnlib"),
    ("cora", "onnx/mnist-set.onnx", "vnnlib/mnist-img12.vnnlib"),
    ("cora", "onnx/mnist-trades.onnx", "vnnlib/mnist-img11.vnnlib"),
    (
        "collins_rul_cnn",
        "onnx/NN_rul_small_window_20.onnx",
        "vnnlib/robustness_8perturbations_delta20_epsilon10_w20.vnnlib",
    ),
]


@cache
def expected(root: Path) -> dict[tuple[str, str, str], str]:
    """(family, onnx, vnnlib) -> verdict."""
    with (root / "vnncomp" / "expected.csv").open(encoding="utf-8", newline="") as file:
        return {(r["family"], r["onnx"], r["vnnlib"]): r["expected"] for r in csv.DictReader(file)}


def run(shared: Path, instance: tuple[str, str, str], **options: object) -> Report:
    """Verifies one instance; skips it, visibly, where this collection does not hold it."""
    family, onnx, vnnlib = instance
    folder = shared / "vnncomp" / family
    paths = [
        next((p for p in (folder / f, folder / (f + ".gz")) if p.is_file()), None) for f in (onnx, vnnlib)
    ]
    if paths[0] is None or paths[1] is None:
        pytest.skip(f"{instance} is not in this collection")
    return verify(paths[0], paths[1], options=Options(**options))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("instance", EASY, ids=lambda i: "-".join(i[1:]))
def test_easy_instances_are_decided_rightly(shared: Path, instance: tuple[str, str, str]) -> None:
    report = run(shared, instance, max_domains=20_000)
    assert report.status.value == expected(shared)[instance]


@pytest.mark.parametrize("instance", CAREFUL, ids=lambda i: "-".join(i[1:]))
def test_never_a_wrong_verdict(shared: Path, instance: tuple[str, str, str]) -> None:
    report = run(shared, instance, max_domains=200)
    if report.status in (Status.SAT, Status.UNSAT):
        assert report.status.value == expected(shared)[instance]


@pytest.mark.parametrize("instance", EASY[:7], ids=lambda i: "-".join(i[1:]))
def test_blind_and_deployed(shared: Path, instance: tuple[str, str, str]) -> None:
    """Without the attack, at level float32: still never the opposite verdict."""
    report = run(shared, instance, max_domains=300, attack=False, semantics=Semantics.FLOAT32)
    wanted = expected(shared)[instance]
    assert report.status.value in (wanted, Status.UNKNOWN.value)
    assert not (wanted == Status.SAT.value and report.status is Status.UNSAT)


def test_torch_is_not_imported(shared: Path) -> None:
    """A small instance, in a fresh process."""
    folder = shared / "vnncomp" / "acasxu"
    code = (
        "import sys\nfrom verifier import verify\n"
        "r = verify(sys.argv[1], sys.argv[2])\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules\n"
        "print(r.status.value)"
    )
    args = [str(folder / ACAS.format("1_1")), str(folder / "vnnlib/prop_3.vnnlib")]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected(shared)["acasxu", ACAS.format("1_1"), "vnnlib/prop_3.vnnlib"]
