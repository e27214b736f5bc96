"""surebound.toml: what is read, and how mistakes are told (file, line, what to write instead)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import gate_nets as nets
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bounds.errors import BadInput, SpecError
from bounds.settings import loads, positions
from verifier.gate.config import parse_config, read_config
from verifier.gate.requirements import KINDS
from verifier.gate.requirements.base import Common

ROOT = Path(__file__).resolve().parents[3]
GOOD = """version = 1
seed = 3

[budget]
seconds = 0.1
[models.net]
path = "net.onnx"
[data.test]
path = "test.npz"
mean = [0.1, "1/3"]
std = 0.5
clip = [0, 1]

[[requirement]]
id = "robust"
kind = "certified-accuracy"
model = "net"
data = "test"
radius = "2/255"
at_least = 0.9

[[requirement]]
id = "safe"
kind = "vnnlib"
model = "net"
files = "*.vnnlib"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nets.halves(tmp_path / "net.onnx")
    nets.samples(tmp_path / "test.npz", [[1.0, 0.0]], [0])
    (tmp_path / "a.vnnlib").write_text("(declare-const X_0 Real)")
    return tmp_path


def test_numbers_are_read_exactly(folder: Path) -> None:
    config = parse_config(GOOD, folder=folder)
    assert config.budget.seconds == Fraction(1, 10)
    assert config.data["test"].mean == (Fraction(1, 10), Fraction(1, 3))
    assert config.data["test"].std == (Fraction(1, 2),)
    robust, safe = config.requirements
    assert (robust.settings.radius, robust.settings.at_least) == (Fraction(2, 255), Fraction(9, 10))
    assert safe.settings.files == ("*.vnnlib",)
    assert (robust.line, safe.line) == (14, 22)


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (changed("radius =", "radus ="), 19,
         "unknown key 'radus' in [requirement.1]; did you mean 'radius'?"),
        (changed("seconds = 0.1", "secnds = 1"), 5,
         "unknown key 'secnds' in [budget]; did you mean 'seconds'?"),
        (changed("[budget]", "[bugdet]"), 4, "unknown key 'bugdet'; did you mean 'budget'?"),
        (changed('radius = "2/255"', 'radius = "two"'), 19, "'radius' is a number, or a quotient such as"),
        (changed('radius = "2/255"', "radius = 0"), 19, "'radius' is 0 and must be above 0"),
        (changed('radius = "2/255"\n', ""), 14, "[requirement.1] lacks the key 'radius'"),
        (changed("at_least = 0.9", "at_least = 1.5"), 20, "'at_least' is above 1"),
        (changed("at_least = 0.9", "at_least = true"), 20, "'at_least' is a number"),
        (changed("seed = 3", 'seed = "3"'), 2, "'seed' is a whole number, not '3'"),
        (changed("version = 1", "version = 2"), 1, "version 2 is not known"),
        (changed('kind = "vnnlib"', 'kind = "vnnlibs"'), 24,
         "unknown kind 'vnnlibs'; did you mean 'vnnlib'?"),
        (changed('kind = "vnnlib"\n', ""), 22, "a requirement lacks the key 'kind'"),
        (changed('id = "safe"', 'id = "robust"'), 23, "id 'robust' is used twice"),
        (changed('id = "safe"', 'id = "../x"'), 23, "'../x' cannot be an id"),
        (changed('model = "net"\ndata', 'model = "nte"\ndata'), 17,
         "there is no [models.nte]; did you mean 'net'?"),
        (changed('data = "test"', 'data = "tset"'), 18, "there is no [data.tset]; did you mean 'test'?"),
        (changed('"net.onnx"', '"nte.onnx"'), 7, "'nte.onnx' does not exist"),
        (changed('"test.npz"', '"no.npz"'), 9, "'no.npz' does not exist"),
        (changed('"*.vnnlib"', '"b*.vnnlib"'), 26, "'b*.vnnlib' matches no file"),
        (changed('"*.vnnlib"', '"**x"'), 26, "'**x' is no pattern of paths"),
        (changed('"*.vnnlib"', '"/x*"'), 26, "'/x*' is no relative path"),
        (changed('"*.vnnlib"', '""'), 26, "'' is no path"),
        (changed('"*.vnnlib"', '"*.vnnlib"\nnetworks = ["f=nte"]'), 27,
         "'f=nte' names no network of [models]"),
        (changed('"*.vnnlib"', '"*.vnnlib"\nnetworks = ["f"]'), 27, 'write "DECLARED=NAME"'),
        (changed('"*.vnnlib"', "[]"), 26, "'files' is empty"),
        (changed('"net.onnx"', r'"\u0000"'), 7, "is no path"),
        (changed('"*.vnnlib"', '["a.vnnlib", "b.vnnlib"]'), 26, "'b.vnnlib' does not exist"),
        (changed("clip = [0, 1]", "clip = [1, 0]"), 12, "'clip' is empty"),
        (changed("clip = [0, 1]", "clip = [0, 1, 2]"), 12, "'clip' has 3 numbers"),
        (changed("std = 0.5", "std = [1, 2, 3]"), 10, "'mean' has 2 numbers, 'std' 3"),
        (changed("std = 0.5", "std = 0"), 11, "'std' is 0 and must be above 0"),
        (changed("std = 0.5", "std = nan"), 11, "'std' is a number, or a quotient"),
        (changed("seed = 3", "seed = "), 2, "Invalid value"),
        (changed("[models.net]", "[[models.net]]"), 6, "'net' is a table"),
        ("version = 1\n", 0, "states no requirement"),
        ("version = 1\n[requirement]\nid = 'a'\n", 2, "write [[requirement]]"),
        (GOOD.replace("version = 1\n", ""), 0, "the file lacks the key 'version'"),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_line(text: str, line: int, words: str, folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_config(text, "surebound.toml", folder)
    assert words in str(caught.value)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"surebound.toml:{line}:" if line else "surebound.toml: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(SpecError, match="not UTF-8"):
        read_config(tmp_path / "x.toml")


def test_places_of_keys_in_arrays_of_tables_and_long_values() -> None:
    text = (
        'a = """\nb = 1\n"""\n[[r]]\nid = 1\n'
        'list = [\n  "c = 2",\n  [3],\n] # [\n[[r]]\nid = 2\n[r.sub]\nd = 4\n'
        "\"q r\" = 5\ne . f = '#'\n"
    )
    found = positions(text)
    assert found[("a",)] == (1, 1)
    assert ("b",) not in found and ("r", 0, "c") not in found
    assert found[("r", 0)] == (4, 1) and found[("r", 0, "list")] == (6, 1)
    assert found[("r", 1, "id")] == (11, 1)
    assert found[("r", 1, "sub", "d")] == (13, 1)
    assert found[("r", 1, "sub", "q r")] == (14, 1)
    assert found[("r", 1, "sub", "e", "f")] == (15, 1)


def test_every_key_of_a_real_file_has_a_place() -> None:
    text = (ROOT / "examples/ci_gate/surebound.toml").read_text()
    places = positions(text)
    for i, one in enumerate(tomllib.loads(text)["requirement"]):
        for name in one:
            assert text.splitlines()[places["requirement", i, name][0] - 1].strip().startswith(name)


@pytest.mark.parametrize("number", ["1e999999", '"1e400000"', '"1/0"', '"x"', "inf", "true"])
def test_absurd_numbers_are_refused(number: str, folder: Path) -> None:
    with pytest.raises(SpecError, match="'radius' is a number"):
        parse_config(changed('radius = "2/255"', f"radius = {number}"), folder=folder)


@pytest.mark.parametrize("number", ["1e400", '"1e-400"', '"1/1e99"', "1e31"])
def test_numbers_that_no_float_is_near_are_refused(number: str, folder: Path) -> None:
    with pytest.raises(SpecError, match="'radius' is"):
        parse_config(changed('radius = "2/255"', f"radius = {number}"), folder=folder)


PIECES = (
    "[",
    "]",
    "[[",
    "]]",
    '"',
    "'",
    '"""',
    "=",
    "{",
    "}",
    "#",
    ".",
    "1",
    "-",
    "e9",
    "nan",
    "true",
    "\n",
    "é",
    "\\",
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_is_read_or_refused_with_a_sentence(data: st.DataObject, folder: Path) -> None:
    """Lines dropped, repeated and swapped, pieces of syntax put anywhere."""
    lines = GOOD.splitlines()
    order = data.draw(st.lists(st.sampled_from(range(len(lines))), min_size=1, max_size=30))
    text = "\n".join(lines[i] for i in (order if data.draw(st.booleans()) else range(len(lines)))) + "\n"
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 3)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[end:]
    try:
        parse_config(text, "surebound.toml", folder)
    except SpecError as error:
        assert str(error).startswith("surebound.toml:") and "\n" not in str(error)
        assert 0 <= error.line <= text.count("\n") + 1
    except BadInput as error:
        assert "\n" not in str(error)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(SpecError):
        loads("a = " + "[" * 100_000, "x.toml")


def generator():
    spec = importlib.util.spec_from_file_location("gen_gate", ROOT / "docs/gen_gate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_and_schema_are_up_to_date() -> None:
    made = generator()
    assert made.PAGE.read_text(encoding="utf-8") == made.render(), "run python docs/gen_gate.py"
    assert made.SCHEMA.read_text(encoding="utf-8") == made.schema(), "run python docs/gen_gate.py"


def test_the_schema_takes_good_files_and_refuses_mistakes() -> None:
    schema = json.loads((ROOT / "verifier/gate/schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for text in (GOOD, (ROOT / "examples/ci_gate/surebound.toml").read_text()):
        check.validate(tomllib.loads(text))
    for text in (
        changed("radius =", "radus ="),
        changed('radius = "2/255"\n', ""),
        changed("seed = 3", "seed = -1"),
    ):
        assert not check.is_valid(tomllib.loads(text))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_complete(name: str) -> None:
    """Its keys are documented, it has the common ones, and the how-to page speaks of it."""
    row = KINDS[name]
    assert issubclass(row.settings, Common)
    assert (row.settings.__doc__ or "").strip()
    assert all(hasattr(row.settings, model) for model in row.models)
    assert f"`{name}`" in (ROOT / "docs/howto/gate.md").read_text(encoding="utf-8")
    assert name in (ROOT / "tests/unit/gate/test_gate_requirements.py").read_text(encoding="utf-8")


def test_help_knows_the_formats_without_importing_them() -> None:
    from verifier.cli.gate import FORMATS, UNKNOWN
    from verifier.gate.emit import EMITTERS
    from verifier.gate.report import Unknown

    assert tuple(EMITTERS) == FORMATS
    assert tuple(u.value for u in Unknown) == UNKNOWN
    code = "import verifier.cli.gate, sys; print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
