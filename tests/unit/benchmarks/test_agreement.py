"""Random queries over many operators: verdicts agree with brute force, and a lie would be noticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import agreement
import numpy as np
import pytest
from _random_queries import MOVES, query

from verifier.verdict import Semantics, Status

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PLAIN = agreement.Setting(Semantics.REAL, attack=True, certificate=False, operands=False)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_wrong(seed: int) -> None:
    words: Counter[str] = Counter()
    for q, setting, word in agreement.run(1000 + seed, 20, 30):
        assert not word.startswith("wrong"), (q.operators, setting, word)
        words[word] += 1
    assert words["sat"] > 2 and words["unsat"] > 2


def test_without_an_attack_no_known_violation_is_proved_away(tmp_path: Path) -> None:
    seen = 0
    for number in range(40):
        q = query((77, number), tmp_path)
        if q is None or not q.known_sat:
            continue
        seen += 1
        operands = bool(number % 2)
        setting = agreement.Setting(Semantics.REAL, attack=False, certificate=False, operands=operands)
        assert agreement.outcome(q, setting, 12, tmp_path / "c") in ("sat", "unknown", "timed-out")
    assert seen > 8


@pytest.mark.parametrize("claim", [Status.UNSAT, Status.SAT])
def test_a_lie_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: Status) -> None:
    """Whatever the query, ``verify`` says the same; a witness is the box's corner."""
    found: Counter[str] = Counter()
    for number in range(30):
        q = query((5, number), tmp_path)
        if q is None:
            continue
        low = [float(v) for v in agreement.load(q.spec).cases[0].lower]
        report = SimpleNamespace(status=claim, witness=SimpleNamespace(x=low))
        monkeypatch.setattr(agreement, "verify", lambda *_, report=report, **__: report)
        found[agreement.outcome(q, PLAIN, 1, tmp_path / "c").split(":")[0]] += 1
    assert found["wrong"] > 3


def test_every_operator_is_drawn(tmp_path: Path) -> None:
    seen: set[str] = set()
    for number in range(400):
        _, operators = agreement_network(number)
        seen.update(operators)
    assert seen == set(MOVES)


def agreement_network(number: int) -> tuple[object, tuple[str, ...]]:
    from _random_queries import network

    return network(np.random.default_rng(number))
