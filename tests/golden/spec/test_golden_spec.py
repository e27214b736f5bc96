"""Small properties, and the exact boxes and rows they must compile to.

To accept a change of the expected files: ``SUREBOUND_UPDATE_GOLDEN=1 pytest tests/golden/spec``.
"""

import json
import os
from pathlib import Path

import pytest

from verifier.spec.load import load
from verifier.spec.serial import to_json

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.vnnlib"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_compiled_form(file):
    if file.stem == "two_networks":
        pytest.importorskip("vnnlib", reason="the official VNN-LIB 2.0 parser is not installed")
    actual = json.loads(to_json(load(file)))
    expected = file.with_suffix(".json")
    if os.environ.get("SUREBOUND_UPDATE_GOLDEN"):
        expected.write_text(json.dumps(actual, indent=1, sort_keys=True) + "\n")
    assert actual == json.loads(expected.read_text())
