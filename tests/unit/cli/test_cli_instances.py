"""Lists of instances: what is accepted, and how errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bounds.errors import BadInput
from verifier.cli.instances import read_instances
from verifier.query import OPTIONS, Options, parse_bytes


def listing(folder: Path, text: str | bytes) -> Path:
    path = folder / "instances.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_plain_lines(tmp_path: Path) -> None:
    path = listing(tmp_path, "# a comment\na.onnx, p.vnnlib, 116\n\nb.onnx,q.vnnlib,20.5\nc.onnx,r.vnnlib\n")
    found = read_instances(path)
    assert [(i.number, i.onnx, i.vnnlib, i.timeout) for i in found] == [
        (1, "a.onnx", "p.vnnlib", 116.0),
        (2, "b.onnx", "q.vnnlib", 20.5),
        (3, "c.onnx", "r.vnnlib", None),
    ]


def test_header_in_any_order_with_more_columns(tmp_path: Path) -> None:
    path = listing(tmp_path, "\ufefffamily,vnnlib,onnx,expected,timeout,who\nacas,p.vnnlib,a.onnx,sat,3,me\n")
    (instance,) = read_instances(path, root=Path("/data"))
    assert (instance.onnx, instance.vnnlib, instance.expected, instance.timeout) == (
        *("acas/a.onnx", "acas/p.vnnlib", "sat"),
        3.0,
    )
    assert instance.folder == Path("/data")


def test_timeout_and_filter(tmp_path: Path) -> None:
    path = listing(tmp_path, "a.onnx,p.vnnlib,1\nb.onnx,p.vnnlib,1\n")
    (instance,) = read_instances(path, timeout=7.0, pattern="^b")
    assert (instance.number, instance.timeout) == (2, 7.0)  # filters do not renumber
    with pytest.raises(BadInput, match="none of the 2 instances"):
        read_instances(path, pattern="zzz")
    with pytest.raises(BadInput, match="not a regular expression"):
        read_instances(path, pattern="(")


@pytest.mark.parametrize("there", ["a.onnx", "a.onnx.gz"])
@pytest.mark.parametrize("listed", ["a.onnx", "a.onnx.gz"])
def test_gz_or_not(tmp_path: Path, there: str, listed: str) -> None:
    (tmp_path / there).touch()
    (tmp_path / "p.vnnlib").touch()
    (instance,) = read_instances(listing(tmp_path, f"{listed},p.vnnlib,1\n"))
    assert instance.files() == (tmp_path / there, tmp_path / "p.vnnlib")


def test_missing_files_are_named(tmp_path: Path) -> None:
    (instance,) = read_instances(listing(tmp_path, "a.onnx,p.vnnlib,1\n"))
    with pytest.raises(BadInput, match=r"a\.onnx: no such file, nor a\.onnx\.gz"):
        instance.files()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no instances"),
        ("onnx,vnnlib,timeout\n", "no instances"),
        ("a.onnx,p.vnnlib,1\nb.onnx\n", ":2: 1 columns"),
        ("a.onnx,p.vnnlib,1,2\n", ":1: 4 columns"),
        ("a.onnx,p.vnnlib,1\n\nb.onnx,p.vnnlib,soon\n", ":3: timeout is 'soon'"),
        ("a.onnx,p.vnnlib,-1\n", ":1: timeout is '-1'"),
        ("a.onnx,p.vnnlib,nan\n", ":1: timeout is 'nan'"),
        (",p.vnnlib,1\n", ":1: column 'onnx' is empty"),
        ("onnx,vnnlib,expected\na,b,maybe\n", ":2: expected verdict is 'maybe'"),
        (b"a.onnx,p\xff.vnnlib,1\n", "not a CSV text file in UTF-8"),
        ('"a.onnx,p.vnnlib,1\n', "not a CSV text file"),
    ],
)
def test_malformed(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_instances(listing(tmp_path, text))


def test_stems_are_unique_file_names(tmp_path: Path) -> None:
    path = listing(tmp_path, "x/n.onnx.gz,p q.vnnlib,1\ny/n.onnx,p q.vnnlib,1\n")
    assert [i.stem for i in read_instances(path)] == ["0001-n-p_q", "0002-n-p_q"]


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("2k", 2048), ("1.5G", 3 * 2**29), ("512MiB", 2**29), ("1TB", 2**40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "inf", "nan", "2X", "1 2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


def test_the_table_and_the_options_agree() -> None:
    defaults = Options()
    assert [row.name for row in OPTIONS] == list(Options.__slots__)
    assert all(getattr(defaults, row.name) == row.default for row in OPTIONS)


def test_options_check_themselves_in_python_too() -> None:
    with pytest.raises(BadInput, match="--timeout"):
        Options(timeout=0)
    with pytest.raises(BadInput, match="whole number"):
        Options(seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="largest"):
        Options(seed=2**63)
