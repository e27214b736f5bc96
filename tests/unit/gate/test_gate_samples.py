"""Samples: read from every format, laid out for the network, preprocessed in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bounds.errors import BadInput
from verifier.gate.data import READERS
from verifier.gate.entries import DataEntry
from verifier.gate.samples import Choice, GateSamples, load_samples

ALL = Choice(None, 0, stratified=True)
F = Fraction


def load(
    path: Path, shape: tuple[int, ...], classes: int = 2, choice: Choice = ALL, **entry: Any
) -> GateSamples:
    return load_samples(path, "d", DataEntry(str(path), **entry), shape, classes, choice)


def npz(path: Path, x: Any, y: Any = None) -> Path:
    x = np.asarray(x)
    np.savez(path / "d.npz", x=x, y=np.zeros(len(x), dtype=int) if y is None else y)
    return path / "d.npz"


def test_preprocessing_is_exact(tmp_path: Path) -> None:
    path = npz(tmp_path, np.array([[10, 255, 0]], dtype=np.uint8))
    found = load(
        path, (1, 3), mean=(F(1, 10), F(2, 10), F(3, 10)), std=(F(1, 3), F(1, 5), F(1, 7)), clip=(F(0), F(1))
    )
    assert found.points == ((F(10, 255), F(1), F(0)),)
    region = found.region(0, F(1, 50), "inf")
    assert region.lower == (
        (F(10, 255) - F(1, 50) - F(1, 10)) * 3, (1 - F(1, 50) - F(2, 10)) * 5, (0 - F(3, 10)) * 7,
    )  # fmt: skip
    assert region.upper == (
        (F(10, 255) + F(1, 50) - F(1, 10)) * 3,
        (1 - F(2, 10)) * 5,
        (F(1, 50) - F(3, 10)) * 7,
    )
    assert found.scaling.to_data(found.scaling.to_network(found.points[0])) == found.points[0]
    assert any("divided by 255" in note for note in found.notes)


def test_float32_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    found = load(npz(tmp_path, np.array([[0.1]], dtype=np.float32)), (1, 1), scale=F(1, 2))
    assert found.points[0][0] == F(float(np.float32(0.1))) * 2


def test_balls_of_the_2_norm_need_one_std(tmp_path: Path) -> None:
    path = npz(tmp_path, [[1.0, 2.0]])
    region = load(path, (1, 2), std=(F(1, 4),), mean=(F(1),)).region(0, F(1, 2), "2")
    assert region.ball is not None
    assert (region.ball.radius, region.ball.center) == (F(2), (F(0), F(4)))
    with pytest.raises(BadInput, match="need the same std"):
        load(path, (1, 2), std=(F(1), F(2))).region(0, F(1, 2), "2")


def test_channels(tmp_path: Path) -> None:
    x = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3).astype(np.float32)
    mean = (F(0), F(100), F(200))
    moved = load(npz(tmp_path, x), (1, 3, 4, 5), mean=mean)
    assert moved.points[0][:2] == (F(0), F(3))
    assert moved.scaling.mean[:20] == (F(0),) * 20 and moved.scaling.mean[40:] == (F(200),) * 20
    last = load(npz(tmp_path, x), (1, 4, 5, 3), mean=mean)
    assert last.scaling.mean[:4] == (F(0), F(100), F(200), F(0))
    blue = load(npz(tmp_path, x), (1, 3, 4, 5), mean=mean, colours="bgr")
    assert blue.points[0][0] == F(2) and blue.scaling.mean[0] == F(0)
    grey = load(npz(tmp_path, x[..., 0]), (1, 1, 4, 5), mean=(F(7),))
    assert grey.shape == (1, 4, 5) and set(grey.scaling.mean) == {F(7)}
    flat = load(npz(tmp_path, x), (1, 60))
    assert flat.points[0] == tuple(map(F, range(60)))
    square = load(npz(tmp_path, np.zeros((1, 3, 3, 3))), (1, 3, 3, 3), mean=mean, channels="last")
    assert square.scaling.mean[:9] == (F(0),) * 9  # moved to the front


@pytest.mark.parametrize(
    ("x", "y", "entry", "words"),
    [
        ([[1.0, 2.0, 3.0]], [0], {}, "samples have shape"),
        ([[1.0, 2.0]], [2], {}, "label 2 of sample 0 is no output"),
        ([[1.0, 2.0]], [-1], {}, "label -1 of sample 0"),
        ([[1.0, 2.0]], [0.5], {}, "label 0.5 of sample 0"),
        ([[1.0, 2.0]], [0, 1], {}, "give one whole number for each"),
        (np.zeros((0, 2)), np.zeros(0), {}, "holds no samples"),
        ([[np.nan, 2.0]], [0], {}, "not finite"),
        ([["a", "b"]], [0], {}, "not numbers"),
        ([[1.0, 2.0]], [0], {"clip": (F(0), F(1))}, "sample 0 has the number 2, outside clip"),
        ([[1.0, 2.0]], [0], {"mean": (F(0), F(0), F(0))}, "mean has 3 numbers"),
        (
            [[1.0, 2.0]],
            [0],
            {"inputs": "pixels"},
            "has no array 'pixels' (it holds x, y); name one with the key",
        ),
        ([[1.0, 2.0]], [0], {"colours": "bgr"}, "needs images of 3 channels"),
    ],
)
def test_data_that_do_not_fit(x: Any, y: Any, entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load(npz(tmp_path, x, np.asarray(y)), (1, 2), **entry)
    assert words in str(caught.value)


def test_more_samples_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds 1 samples, 5 are asked for"):
        load(npz(tmp_path, [[1.0, 2.0]]), (1, 2), choice=Choice(5, 0, stratified=True))


def test_choices_repeat_and_are_stratified(tmp_path: Path) -> None:
    path = npz(tmp_path, np.arange(200.0).reshape(100, 2), np.arange(100) % 4 // 3)
    a, b = (load(path, (1, 2), choice=Choice(10, seed, stratified=True)) for seed in (1, 1))
    assert a == b and sorted(a.labels) == [0] * 5 + [1] * 5
    other = load(path, (1, 2), choice=Choice(10, 2, stratified=True))
    assert other.names != a.names and other.sha256 != a.sha256


def test_folders_of_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pip install 'surebound[gate]'")
    for name, value in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        image.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(tmp_path / name / "a.png")
    found = load(tmp_path, (1, 1, 4, 4))
    assert (found.names, found.labels) == (("cat/a.png", "dog/a.png"), (0, 1))
    assert found.points[1][0] == F(200, 255)
    colour = load(tmp_path, (1, 3, 4, 4))
    assert len(colour.points[0]) == 48
    image.fromarray(np.zeros((5, 4), dtype=np.uint8)).save(tmp_path / "cat" / "b.png")
    with pytest.raises(BadInput, match="must be alike"):
        load(tmp_path, (1, 1, 4, 4))
    image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "cat" / "b.png")
    with pytest.raises(BadInput, match="has mode RGB, the network takes L"):
        load(tmp_path, (1, 1, 4, 4))
    (tmp_path / "cat" / "b.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match="cannot be read as an image"):
        load(tmp_path, (1, 1, 4, 4))


def test_folders_named_by_numbers(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pip install 'surebound[gate]'")
    for name in ("3", "10"):
        (tmp_path / name).mkdir()
        image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / name / "a.png")
    assert load(tmp_path, (1, 1, 2, 2), classes=11).labels == (10, 3)
    with pytest.raises(BadInput, match="label 10 of sample 0 is no output"):
        load(tmp_path, (1, 1, 2, 2), classes=4)


def test_folders_without_images(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image", reason="pip install 'surebound[gate]'")
    with pytest.raises(BadInput, match="holds no images"):
        load(tmp_path, (1, 1, 2, 2))


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'surebound[gate]'")
    files = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "d.parquet"
    lists = {"x": pyarrow.array([[1, 2], [3, 4]], pyarrow.list_(pyarrow.uint8())), "y": [0, 1]}
    files.write_table(pyarrow.table(lists), path)
    found = load(path, (1, 2))
    assert found.points == ((F(1, 255), F(2, 255)), (F(3, 255), F(4, 255)))
    files.write_table(pyarrow.table({"a": [1.5, 2.0], "b": [3, 4], "label": [0, 1]}), path)
    wide = load(path, (1, 2), labels="label")
    assert wide.points == ((F(3, 2), F(3)), (F(2), F(4)))
    with pytest.raises(BadInput, match="has no column 'z'"):
        load(path, (1, 2), labels="label", inputs="z")
    with pytest.raises(BadInput, match="no column of labels under a usual name"):
        load(path, (1, 2))
    files.write_table(pyarrow.table({"x": [[1], [1, 2]], "y": [0, 1]}), path)
    with pytest.raises(BadInput, match="not lists of one length"):
        load(path, (1, 2))
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="no readable parquet file"):
        load(path, (1, 2))


def test_names_that_do_not_tell_the_format(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(BadInput, match="does not tell what it is"):
        load(tmp_path / "d.csv", (1, 2))
    assert set(READERS) == {"npz", "parquet", "folder"}
