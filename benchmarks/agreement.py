"""Random agreement: does ``verify`` contradict brute force on random tiny networks over many operators?

For every seed, ``--count`` networks of a few neurons with a property each, under random options: level of
semantics, attack on or off, certificate written (and then checked) or not, operands split or inputs. Wrong is

- ``unsat`` where brute force has a violation (by more than rounding explains),
- ``sat`` far from any violation that brute force finds, unless the witness is confirmed once more,
- a certificate that the checker rejects.

Undecided queries (``--domains`` subproblems) are counted, not wrong. The exit status is 1 if anything was
wrong.

    ./scripts/bench agreement [--seeds 20] [--first 0] [--count 200] [--domains 300]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import described, provenance, write
from _random_queries import MARGIN, Query, query

import bounds.methods.bounder as bounder
from bounds.errors import CertificateRejected, SureboundError
from verifier import Options, verify
from verifier.check.main import check
from verifier.spec.load import load
from verifier.verdict import Semantics, Status

_FORWARD_INPUTS = bounder.FORWARD_INPUTS


@dataclass(frozen=True)
class Setting:
    """Options of one run; ``operands``: operands are split, however few inputs there are."""

    semantics: Semantics
    attack: bool
    certificate: bool
    operands: bool

    @staticmethod
    def drawn(rng: np.random.Generator) -> Setting:
        flags = rng.random(4) < (0.3, 0.6, 0.4, 0.5)
        return Setting(Semantics.FLOAT32 if flags[0] else Semantics.REAL, *(bool(f) for f in flags[1:]))


def outcome(q: Query, setting: Setting, domains: int, proof: Path) -> str:
    """One word; those that start with "wrong" are defects."""
    bounder.FORWARD_INPUTS = 0 if setting.operands else _FORWARD_INPUTS
    options = Options(semantics=setting.semantics, attack=setting.attack, max_domains=domains, timeout=5)
    try:
        report = verify(q.model, q.spec, options=options, certificate=proof if setting.certificate else None)
    except SureboundError as error:
        return f"refused ({type(error).__name__})"
    finally:
        bounder.FORWARD_INPUTS = _FORWARD_INPUTS
    if report.status is Status.UNSAT and q.known_sat:
        return f"wrong: unsat, {q.least} seen"
    if report.status is Status.SAT and q.looks_unsat and not confirmed(q, report):
        return "wrong: sat, and its witness is none"
    if setting.certificate and report.status in (Status.SAT, Status.UNSAT):
        try:
            check(proof, {"": q.model}, q.spec)
        except CertificateRejected as error:
            return f"wrong: certificate rejected: {error}"
        except SureboundError as error:
            return f"{report.status.value}, checker refused ({type(error).__name__})"
    return report.status.value


def confirmed(q: Query, report: Any) -> bool:
    """Whether the witness violates in onnxruntime, up to rounding: brute force has missed it then."""
    import onnxruntime as ort

    x = np.array([[float(v) for v in report.witness.x]], dtype=np.float32)
    y = ort.InferenceSession(str(q.model)).run(None, {"x": x})[0][0]
    case = load(q.spec).cases[0]
    inside = all(
        float(lo) - 1e-9 <= v <= float(hi) + 1e-9
        for lo, v, hi in zip(case.lower, x[0], case.upper, strict=True)
    )
    rows = case.disjuncts[0]
    values = [sum(float(c) * float(y[i]) for i, c in r.outputs.items()) + float(r.constant) for r in rows]
    return inside and max(values) <= MARGIN * q.size


def run(seed: int, count: int, domains: int) -> Iterator[tuple[Query, Setting, str]]:
    """The outcomes of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        made, number = 0, 0
        while made < count:
            q = query((seed, number), Path(folder))
            setting = Setting.drawn(np.random.default_rng((seed, number, 1)))
            number += 1
            if q is not None:
                made += 1
                yield q, setting, outcome(q, setting, domains, Path(folder) / "c.sbcert")


HEAD = (
    "| seed | queries | known sat | found sat | far from sat | proved | undecided | refused | wrong | s |\n"
    "|---:|" + "---:|" * 9
)


def words_of(outcomes: Counter[tuple[str, str]]) -> list[int]:
    """The cells of a row of the table, from (brute force, verify) pairs."""

    def count(truth: str, *said: str) -> int:
        return sum(n for (t, w), n in outcomes.items() if truth in (t, "") and w.startswith(said or ("",)))

    wrong, refused = count("", "wrong"), sum(n for (_, w), n in outcomes.items() if "refused" in w)
    decided = count("sat"), count("sat", "sat"), count("unsat"), count("unsat", "unsat")
    return [count(""), *decided, count("", "unknown", "timed-out"), refused, wrong]


def save(
    chosen: argparse.Namespace, lines: list[str], outcomes: Counter[tuple[str, str]], wrong: list[str]
) -> None:
    """What there is so far: a run may be stopped after any seed."""
    about = provenance(**vars(chosen))
    record = {
        "provenance": about,
        "outcomes": [{"brute_force": t, "verify": w, "count": n} for (t, w), n in sorted(outcomes.items())],
        "wrong": wrong,
    }
    text = "\n".join([HEAD, *lines, "", *wrong]).rstrip()
    write("agreement", record, f"{text}\n\n{described(about)}\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--domains", type=int, default=300)
    chosen = parser.parse_args()
    total: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    lines: list[str] = []
    print(HEAD)
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        begun, found = time.monotonic(), Counter[tuple[str, str]]()
        for q, setting, word in run(seed, chosen.count, chosen.domains):
            truth = "sat" if q.known_sat else "unsat" if q.looks_unsat else "close"
            found[truth, word.split(":")[0]] += 1
            if word.startswith("wrong"):
                wrong.append(f"{seed}: {q.operators} {setting}: {word}")
                print(wrong[-1], flush=True)
        total.update(found)
        lines.append(f"| {' | '.join(map(str, [seed, *words_of(found)]))} | {time.monotonic() - begun:.0f} |")
        print(lines[-1], flush=True)
        save(chosen, [*lines, f"| all | {' | '.join(map(str, words_of(total)))} | |"], total, wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
