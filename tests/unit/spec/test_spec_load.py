"""Files: compression, encoding, size, choice of the language."""

import gzip
import hashlib
import subprocess
import sys

import pytest

from bounds.errors import BadInput, LimitExceeded, SpecError
from verifier.spec.load import load, loads
from verifier.spec.serial import to_json

TEXT = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (and (>= X_0 0) (<= X_0 1) (<= Y_0 0)))"
RAW = TEXT.encode()


def test_plain_and_gzip_have_the_digest_of_the_contents(tmp_path):
    plain, packed = tmp_path / "a.vnnlib", tmp_path / "b.vnnlib.gz"
    plain.write_bytes(RAW)
    packed.write_bytes(gzip.compress(RAW[:40]) + gzip.compress(RAW[40:]))
    expected = hashlib.sha256(RAW).hexdigest()
    assert load(plain).sha256 == load(packed).sha256 == load(tmp_path / "b.vnnlib").sha256 == expected
    assert load(plain).cases == load(str(packed)).cases
    assert load(plain).source == str(plain)


def test_unreadable(tmp_path):
    with pytest.raises(BadInput, match=r"none\.vnnlib: cannot read the property \(No such file"):
        load(tmp_path / "none.vnnlib")
    with pytest.raises(BadInput, match="Is a directory"):
        load(tmp_path)
    with pytest.raises(BadInput, match="null"):
        load("a\0b")


def test_size_limits(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(LimitExceeded, match="decompresses to more than 1000000 bytes"):
        load(bomb, max_bytes=1_000_000)
    with pytest.raises(LimitExceeded, match="limit of 10 bytes"):
        loads(RAW, max_bytes=10)


def test_damaged_gzip():
    packed = gzip.compress(RAW)
    for data, message in (
        (packed[:-9], "truncated gzip"),
        (packed[:12], "truncated gzip"),
        (b"\x1f\x8b" + b"x" * 50, "corrupt gzip"),
        (packed[:-6] + b"xxxxxx", "corrupt gzip"),
    ):
        with pytest.raises(SpecError, match=message):
            loads(data, source="p.gz")


def test_not_utf8():
    with pytest.raises(SpecError, match=r"p:2:3: byte 0xff is not UTF-8"):
        loads(b"; a\n; \xff\n" + RAW, source="p")


def test_saved_properties_load_like_files():
    built = loads(to_json(loads(TEXT)))
    assert built.language == "built" and built.cases == loads(TEXT).cases


def test_importing_the_readers_is_light():
    code = (
        "import sys, verifier.spec.load; "
        "sys.exit(bool({'numpy', 'torch', 'onnx', 'vnnlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
