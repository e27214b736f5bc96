"""The table of keys: what is read, and how mistakes are told."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from bounds.errors import SpecError
from bounds.settings import positions
from training.config import LAYER_NAMES, Config, as_mapping, from_mapping, parse_config

GOOD = """
seed = 3
[model]
layer = "aol"          # a comment
hidden = [8, 8]
[train]
lr = 1
"""


def test_values_and_defaults() -> None:
    config = parse_config(GOOD)
    assert (config.seed, config.model.layer, config.model.hidden, config.train.lr) == (3, "aol", (8, 8), 1.0)
    assert config.loss.name == Config().loss.name
    assert from_mapping(as_mapping(config)) == config


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("seed = 1\n[model]\nlayr = 'aol'\n", 3, "unknown key 'layr' in [model]; did you mean 'layer'?"),
        ("[modle]\n", 1, "unknown key 'modle'; did you mean 'model'?"),
        ("[train]\n\nepochs = 'many'\n", 3, "'epochs' is a whole number, not 'many'"),
        ("[train]\nepochs = 2.5\n", 2, "'epochs' is a whole number, not 2.5"),
        ("[train]\nepochs = true\n", 2, "'epochs' is a whole number, not True"),
        ("[train]\nepochs = 0\n", 2, "'epochs' is 0 and must be at least 1"),
        ("[train]\nlr = nan\n", 2, "'lr' must be finite"),
        ("[model]\nlayer = 'caley'\n", 2, "'layer' cannot be 'caley'; did you mean 'cayley'?"),
        ("[model]\nhidden = 4\n", 2, "'hidden' is a list of whole numbers, not 4"),
        ("[model]\nhidden = [4, 'x']\n", 2, "'hidden' is a whole number, not 'x'"),
        ("seed = 1\nmodel = 3\n", 2, "'model' is a table: write [model]"),
        ("seed = \n", 1, "Invalid value"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_config(text, "run.toml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"run.toml:{line}:")
    assert words in str(caught.value)


def test_positions_know_tables_and_quoted_keys() -> None:
    found = positions('a = 1\n[ t ]\n  "b c" = 2\n[t.u]\nd.e = 3\n')
    assert found[("a",)] == (1, 1)
    assert found[("t", "b c")] == (3, 3)
    assert found[("t", "u", "d", "e")] == (5, 1)


def test_the_list_of_layers_is_the_tables() -> None:
    pytest.importorskip("torch")
    from training.layers import LAYERS

    assert tuple(LAYERS) == LAYER_NAMES


def test_reading_needs_no_torch(root: Path) -> None:
    code = (
        "import training.config, training.command, sys;"
        "assert not {'torch', 'numpy'}.intersection(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_the_reference_page_is_up_to_date(root: Path) -> None:
    where = importlib.util.spec_from_file_location("gen_training", root / "docs" / "gen_training.py")
    assert where is not None and where.loader is not None
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run: python docs/gen_training.py"
