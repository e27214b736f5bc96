"""Runs: what they write, that they repeat and resume bit for bit, and how failures end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytest.importorskip("safetensors", reason="needs safetensors: ./scripts/test installs it")
pytestmark = pytest.mark.torch

import sdp  # noqa: E402
from bounds.errors import BadInput, SpecError, SureboundError  # noqa: E402
from training import certificates, checkpoint, train, trainer  # noqa: E402
from training.config import Config, from_mapping  # noqa: E402
from training.data import Dataset, augment, load  # noqa: E402
from verifier.cli.main import cli  # noqa: E402


def blobs(count: int = 96) -> tuple[Any, ...]:
    """Three classes of points around corners."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 1]])
    y = rng.integers(0, 3, count)
    x = (centres[y] + 0.15 * rng.standard_normal((count, 4))).astype(np.float32)
    half = count * 2 // 3
    return x[:half], y[:half], x[half:], y[half:]


def small(**changes: Any) -> Config:
    values: dict[str, Any] = {
        "data": {"source": "arrays"},
        "model": {"hidden": [8, 8]},
        "loss": {"radius": 0.2},
        "train": {"epochs": 4, "batch": 16, "lr": 0.02, "average": "ema"},
        "evaluate": {"radii": [0.1, 0.3], "attack_steps": 5},
    }
    for table, keys in changes.items():
        values[table] = {**values.get(table, {}), **keys}
    return from_mapping(values)


def weights(path: Path) -> bytes:
    return (path / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"layer": "sandwich", "activation": "relu"}, "loss": {"name": "emma"}},
        {
            "model": {"layer": "sll", "activation": "relu", "slack": 1.0},
            "loss": {"name": "hinge", "radius": 0.5},
        },
        {"model": {"layer": "aol", "activation": "householder", "residual": True, "head": "layer"}},
        {"model": {"layer": "spectral", "activation": "groupsort4"}, "loss": {"name": "logit-annealing"}},
    ],
)
def test_a_run_ends_in_a_file_whose_claim_is_proved_anew(tmp_path: Path, changes: Any) -> None:
    outcome = train(small(**changes), tmp_path, arrays=blobs())
    report = json.loads(outcome.report.read_text())
    assert report["lipschitz"] == 1.0
    assert report["lipschitz_proved"] <= 1.0
    assert report["clean"] > 0.8
    assert report["export_difference"] < 1e-5
    # certified <= attacked <= clean, and certified falls with the radius
    assert report["certified"]["0.1"] >= report["certified"]["0.3"]
    for radius, value in report["certified"].items():
        assert value <= report["attacked"][radius] <= report["clean"]
    props = {p.key: p.value for p in onnx.load(outcome.model).metadata_props}
    assert float(props["surebound.lipschitz"]) == 1.0
    # another proof, by other code, of the exported file
    bound = sdp.lipschitz(outcome.model)
    assert bound.lower <= 1.0
    assert bound.upper <= (1.0 if not changes or "residual" not in changes.get("model", {}) else 1.001)
    assert (tmp_path / "certified.svg").read_text().startswith("<svg")


def test_runs_repeat_and_resume_bit_for_bit(tmp_path: Path) -> None:
    config = small(data={"augment": ["noise"]})
    for name in ("a", "b"):
        train(config, tmp_path / name, arrays=blobs())
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    run = trainer.start(config, tmp_path / "c", arrays=blobs())
    trainer.run_to_end(run, stop_after=2)
    train(config, tmp_path / "c", arrays=blobs(), resume=True)
    assert weights(tmp_path / "a") == weights(tmp_path / "c")
    other = train(replace(config, seed=1), tmp_path / "d", arrays=blobs())
    assert other.model.read_bytes() != weights(tmp_path / "a")


def test_resuming_another_run_is_refused(tmp_path: Path) -> None:
    trainer.run_to_end(trainer.start(small(), tmp_path, arrays=blobs()), stop_after=1)
    with pytest.raises(BadInput, match=r"another configuration \(train: lr changed\)"):
        trainer.start(small(train={"lr": 0.01}), tmp_path, arrays=blobs(), resume=True)
    (tmp_path / trainer.CHECKPOINT).write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
        trainer.start(small(), tmp_path, arrays=blobs(), resume=True)
    with pytest.raises(BadInput, match="there is no checkpoint"):
        trainer.start(small(), tmp_path / "empty", arrays=blobs(), resume=True)


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer.start(small(), tmp_path, arrays=blobs())
    trainer.run_to_end(run, stop_after=2)
    good = (tmp_path / trainer.CHECKPOINT).read_bytes()
    held = run.task.loss
    monkeypatch.setattr(run.task, "loss", lambda *a: held(*a) * float("nan"))
    with pytest.raises(SureboundError, match=r"epoch 3, step 1 .*last good checkpoint is .*epoch 2"):
        trainer.run_to_end(run)
    assert (tmp_path / trainer.CHECKPOINT).read_bytes() == good
    monkeypatch.setattr(run.task, "loss", held)
    resumed = trainer.start(small(), tmp_path, arrays=blobs(), resume=True)
    assert resumed.state.epoch == 2
    assert all(bool(torch.isfinite(p).all()) for p in resumed.task.model.parameters())


def test_running_out_of_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any) -> Any:
        return torch.empty(1 << 58)  # more than any machine has: the allocator's own error

    run = trainer.start(small(), tmp_path, arrays=blobs())
    monkeypatch.setattr(run.task, "loss", greedy)
    with pytest.raises(
        SureboundError, match=r"out of memory in epoch 1 .*lower 'batch'.*there is no checkpoint"
    ):
        trainer.run_to_end(run)


def test_a_network_too_large_for_memory_is_told(tmp_path: Path) -> None:
    with pytest.raises(SureboundError, match=r"out of memory while building .*lower the widths"):
        trainer.start(
            small(
                model={"kind": "plain", "activation": "relu", "hidden": [1 << 40]},
                loss={"name": "ibp"},
            ),
            tmp_path,
            arrays=blobs(),
        )


def test_a_crash_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer.start(small(), tmp_path, arrays=blobs())
    trainer.run_to_end(run, stop_after=1)
    good = (tmp_path / trainer.CHECKPOINT).read_bytes()

    def full(*_: Any, **__: Any) -> None:
        (tmp_path / "checkpoint.partial").write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(run.file, run.state, run.task.model, run.average, run.optimiser, {})
    assert (tmp_path / trainer.CHECKPOINT).read_bytes() == good


def test_certified_radii_are_never_beaten(tmp_path: Path) -> None:
    """Attacks just inside certified radii change no decision."""
    from training.attack import attack_l2

    run = trainer.start(small(), tmp_path, arrays=blobs())
    trainer.run_to_end(run)
    run.task.model.eval()
    proved: Any = run.task.model.materialise()
    x, y = run.data.test_x, run.data.test_y
    found = certificates.radii(proved, x, y)
    assert (found > 0).mean() > 0.8
    body = proved.body.double()
    for point, label, radius in zip(x.double(), y, found, strict=True):
        if radius > 0:
            moved = attack_l2(body, point[None], label[None], float(radius) * 0.999, 20)
            assert int(body(moved).argmax()) == int(label)
    # the radii are not far from what an attack needs either
    sure = found > 0
    moved = attack_l2(body, x[sure].double(), y[sure], 3.0 * float(found.max()), 30)
    assert (body(moved).argmax(1) != y[sure]).double().mean() > 0.5


def test_a_nan_in_the_weights_certifies_nothing(tmp_path: Path) -> None:
    run = trainer.start(small(), tmp_path, arrays=blobs())
    proved: Any = run.task.model.materialise()
    with torch.no_grad():
        proved.body[-1].bias.fill_(float("nan"))
    assert (certificates.radii(proved, run.data.test_x, run.data.test_y) == -np.inf).all()
    with torch.no_grad():
        next(run.task.model.parameters()).fill_(float("nan"))
    with pytest.raises((ValueError, RuntimeError)):
        run.task.model.materialise()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"layer": "sandwich"}}, "contains its rectifier"),
        ({"loss": {"name": "ibp"}}, "does not go with"),
        ({"model": {"kind": "plain", "activation": "relu"}}, "does not go with"),
        ({"model": {"conv": [4]}}, "convolutions need images"),
        ({"data": {"source": "npz", "path": "nowhere.npz"}}, "no such file"),
        ({"data": {"augment": ["shift"]}}, "is for images"),
        ({"train": {"device": "cuda:99"}}, "cannot be used"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path: Path, changes: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        train(small(**changes), tmp_path, arrays=blobs())


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        '[data]\nsource = "digits"\ntrain_limit = 200\ntest_limit = 50\n[model]\nconv = [8]\nstride = [2]\n'
        'layer = "bcop"\nhidden = [16]\n[train]\nepochs = 2\n[evaluate]\nattack_steps = 2\n'
    )
    result = CliRunner().invoke(cli, ["train", str(file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("clean ")
    assert "epoch 2/2" in result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"clean", "certified", "lipschitz", "examples_per_second"} <= set(report)
    again = CliRunner().invoke(
        cli, ["train", str(file), "--out", str(tmp_path / "out"), "--resume", "--quiet"]
    )
    assert (again.exit_code, again.stderr) == (0, "")
    file.write_text("[train]\nepoch = 2\n")
    with pytest.raises(
        SpecError, match=r"run.toml:2:1: unknown key 'epoch' in \[train\]; did you mean 'epochs'"
    ):
        CliRunner().invoke(cli, ["train", str(file), "--out", str(tmp_path)], catch_exceptions=False)


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, 5, 5), dtype=np.uint8)
    labels = np.arange(6) % 3
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = load(
        from_mapping({"data": {"source": "npz", "path": str(tmp_path / "a.npz"), "train_limit": 4}}).data
    )
    assert (data.shape, data.classes, len(data.train_x), len(data.test_x)) == ((1, 5, 5), 3, 4, 6)
    assert float(data.test_x.max()) <= 1.0
    np.savez(tmp_path / "b.npz", x_train=images)
    with pytest.raises(BadInput, match="it holds x_train"):
        load(from_mapping({"data": {"source": "npz", "path": str(tmp_path / "b.npz")}}).data)
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    with pytest.raises(BadInput, match="pip install torchvision"):
        load(from_mapping({"data": {"source": "torchvision"}}).data)
    digits = load(Config().data)
    assert (digits.shape, len(digits.train_y) + len(digits.test_y)) == ((1, 8, 8), 1797)
    assert float(digits.train_x.max()) == 1.0


def test_an_image_folder(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = np.full((4, 4, 3), 50 * number + i, dtype=np.uint8)
                image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    data = load(from_mapping({"data": {"source": "folder", "path": str(tmp_path)}}).data)
    assert (data.shape, data.train_y.tolist()) == ((3, 4, 4), [0, 0, 1, 1])
    assert float(data.train_x[2, 0, 0, 0]) == np.float32(50 / 255)
    image.fromarray(np.zeros((5, 4, 3), dtype=np.uint8)).save(tmp_path / "test" / "dog" / "odd.png")
    with pytest.raises(BadInput, match="one size and mode"):
        load(from_mapping({"data": {"source": "folder", "path": str(tmp_path)}}).data)


def test_augmentation_moves_pixels_and_nothing_else() -> None:
    x = torch.zeros(40, 1, 5, 5)
    x[:, 0, 2, 2] = 1.0
    config = from_mapping({"data": {"augment": ["shift", "flip"], "shift": 2}}).data
    moved = augment(x, config, torch.Generator().manual_seed(0))
    assert bool((moved.sum((1, 2, 3)) == 1).all())
    assert len({tuple(m.flatten().tolist()) for m in moved}) > 10


def test_dataset_shapes() -> None:
    x = torch.zeros(2, 3)
    assert Dataset(x, x, x, x, 2).shape == (3,)
