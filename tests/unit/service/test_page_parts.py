"""Charts, pictures, drawings and words of the pages, without a server."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from service.pages import image, svg, words
from service.pages.drawing import drawing
from service.pages.session import inside


def parse(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 - our own


def pixels(address: str) -> np.ndarray[Any, Any]:
    """What a PNG file of ours shows, read by its own rules."""
    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        kind, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 8
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


def test_a_chart_has_its_numbers_as_a_table_and_in_words() -> None:
    axes = svg.Axes("T & <b>", "seconds", "bound", mark=(0.0, "proved"))
    chart = svg.lines("c", [svg.Series("low", [(1.0, -2.0), (2.0, -1.0), (3.0, float("inf"))])], axes)
    assert chart is not None
    root = parse(chart.picture)
    names = {"{*}title": "T & <b>", "{*}desc": "low goes from −2 at 1 to −1 at 2"}
    for tag, text in names.items():
        found = root.find(tag)
        assert found is not None and text in (found.text or "")
    assert chart.head == ("seconds", "low") and chart.rows == (("1", "−2"), ("2", "−1"))
    assert not [e for e in root.iter() if "style" in e.attrib]


@pytest.mark.parametrize("points", [[], [(0.0, float("nan"))]])
def test_no_points_no_chart(points: list[tuple[float, float]]) -> None:
    assert svg.lines("c", [svg.Series("a", points)], svg.Axes("t", "x", "y")) is None


@pytest.mark.parametrize("points", [[(0.0, 0.0)], [(1e-9, 1e30), (1e9, -1e30)], [(2.0, 5.0)] * 3])
def test_places_are_inside_the_picture(points: list[tuple[float, float]]) -> None:
    chart = svg.lines("c", [svg.Series("a", points)], svg.Axes("t", "x", "y"))
    assert chart is not None
    for text in parse(chart.picture).iter("{*}text"):
        assert 0 <= float(text.attrib["x"]) <= 520 and 0 <= float(text.attrib["y"]) <= 250
    assert "nan" not in chart.picture and "inf" not in chart.picture


def test_bars_of_both_signs_meet_at_zero() -> None:
    chart = svg.bars("b", "t", [("a", -1.0, 1), ("b", 3.0, 1)], svg.number)
    assert chart is not None
    left, right = parse(chart.picture).findall("{*}rect")
    end = float(left.attrib["x"]) + float(left.attrib["width"])
    assert end == pytest.approx(float(right.attrib["x"]), abs=0.2)
    assert float(right.attrib["width"]) == pytest.approx(3 * float(left.attrib["width"]), rel=0.01)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-1.5, "−1.5"),
        (1234567.0, "1.23e+06"),
        (12345.6, "12,346"),
        (1e-5, "1e-05"),
        (0.25, "0.25"),
    ],
)
def test_numbers_as_people_write_them(value: float, text: str) -> None:
    assert svg.number(value) == text


@pytest.mark.parametrize(
    ("shape", "size", "found"),
    [
        ([1, 1, 28, 28], 784, (28, 28, 1, False, False)),
        ([1, 784], 784, (28, 28, 1, False, True)),
        ([1, 3, 32, 32], 3072, (32, 32, 3, False, False)),
        ([1, 32, 32, 3], 3072, (32, 32, 3, True, False)),
        ([3072], 3072, (32, 32, 3, False, True)),
        ([1, 5], 5, None),
        ([4, 8, 8], 256, None),
        ([28, 28], 783, None),
        ([2, 2], 4, None),
    ],
)
def test_which_inputs_are_images(shape: list[int], size: int, found: Any) -> None:
    assert image.layout(shape, size) == found


@pytest.mark.parametrize("last", [False, True])
def test_pictures_show_what_there_is(last: bool) -> None:
    rng = np.random.default_rng(0)
    a = rng.random((8, 9, 3))
    b = a.copy()
    b[2, 3, 1] = (a[2, 3, 1] + 0.5) % 1.0
    shape = (8, 9, 3) if last else (3, 8, 9)
    flat = [(x if last else np.moveaxis(x, 2, 0)).ravel().tolist() for x in (a, b)]
    found = image.compare(flat[0], flat[1], shape)
    assert found is not None and (found.width, found.height, found.assumed) == (9, 8, False)
    assert np.array_equal(pixels(found.original), np.rint(a * 255).astype(np.uint8))
    assert np.array_equal(pixels(found.changed), np.rint(b * 255).astype(np.uint8))
    difference = pixels(found.difference)
    moved = (difference != difference[0, 0]).any(axis=2)
    assert np.argwhere(moved).tolist() == [[2, 3]]
    red, _, blue = difference[2, 3].tolist()
    assert (red > blue) == (b[2, 3, 1] > a[2, 3, 1])
    assert found.amplified == pytest.approx(1 / abs(b[2, 3, 1] - a[2, 3, 1]))


def test_pictures_of_unusual_numbers() -> None:
    assert image.compare([float("nan")] * 64, [0.0] * 64, [8, 8]) is None
    assert image.compare([0.0] * 63, [0.0] * 64, [8, 8]) is None
    same = image.compare([5.0] * 64, [5.0] * 64, [8, 8])
    assert same is not None and len(np.unique(pixels(same.difference).reshape(-1, 3), axis=0)) == 1


def test_a_drawing_puts_readers_below_what_they_read() -> None:
    graph = [
        {"id": 0, "op": "input", "inputs": [], "shape": [4]},
        {"id": 1, "op": "linear", "inputs": [0], "shape": [3]},
        {"id": 2, "op": "relu", "inputs": [1], "shape": [3]},
        {"id": 3, "op": "add", "inputs": [2, 1], "shape": [3]},
    ]
    found = drawing({"graph": graph})
    assert found is not None
    heights = [float(g[0].attrib["y"]) for g in parse(found.picture).findall("{*}g")]
    assert heights == sorted(heights) and len(set(heights)) == 4
    assert found.rows[3] == ("3", "add", "3", "2, 1")
    assert drawing({"graph": graph * 100}) is None and drawing({}) is None


@pytest.mark.parametrize(
    "path", ["//e.example", "/\\e.example", "https://e", "", "/a\nb", "javascript:alert(1)"]
)
def test_ways_out_are_not_followed(path: str) -> None:
    assert inside(path) == "/"
    assert inside("/jobs?state=failed") == "/jobs?state=failed"


def test_a_property_is_called_by_its_first_remark() -> None:
    assert words.vnnlib_title("; keeps its class.\n(declare-const X_0 Real)") == "keeps its class"
    assert (
        words.vnnlib_title("(declare-const X_0 Real)(declare-const Y_0 Real)")
        == "VNN-LIB, 1 inputs and 1 outputs"
    )
