"""Properties in VNN-LIB 2.0 are read by a confined child, which tells mistakes and survives none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vnnlib", reason="pip install 'surebound[vnnlib2]'")

from workers.linter import Linter

GOOD = """(vnnlib-version <2.0>)
(declare-network net
  (declare-input X float32 [2])
  (declare-output Y float32 [1]))
(assert (and (<= X[0] 1.0) (>= X[0] 0.0) (<= X[1] 1.0) (>= X[1] 0.0)))
(assert (>= Y[0] 3.0))
"""


@pytest.fixture
def linter(tmp_path: Path) -> Iterator[Linter]:
    one = Linter(tmp_path, timeout_s=60.0)
    yield one
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told_with_their_place(linter: Linter) -> None:
    assert linter.mistake(GOOD) is None
    for text, line, column in (
        (GOOD.replace("(assert (>= Y[0] 3.0))", "(assert (>= Z[0] 3.0))"), 6, 13),
        (GOOD.replace("X[1] 1.0", "X[7] 1.0"), 5, 46),
    ):
        wrong = linter.mistake(text)
        assert wrong is not None and (wrong.line, wrong.column) == (line, column), wrong
        assert "property" in wrong.detail
    assert linter.mistake(GOOD) is None


def test_a_child_that_dies_is_replaced(linter: Linter) -> None:
    assert linter.mistake(GOOD) is None
    child = linter._child
    assert child is not None
    child.process.kill()
    child.process.wait()
    assert linter.mistake(GOOD) is None and linter._child is not child


def test_a_text_that_takes_too_long_is_left_to_its_job(tmp_path: Path) -> None:
    linter = Linter(tmp_path, timeout_s=60.0)
    try:
        assert linter.mistake(GOOD) is None and linter._child is not None
        os.kill(linter._child.pid, signal.SIGSTOP)
        linter._timeout_s = 0.1
        assert linter.mistake("(vnnlib-version <2.0>) nonsense") is None and linter._child is None
        linter._timeout_s = 60.0
        assert linter.mistake("(vnnlib-version <2.0>) nonsense") is not None
    finally:
        linter.close()
