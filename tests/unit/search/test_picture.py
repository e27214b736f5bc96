"""What an undecided run tells: the worst region, advice, and a picture of the tree."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from verifier import Options, Report, verify
from verifier.advice import RULES, Facts, advice
from verifier.report.emit.svg import svg
from verifier.report.model import Sample
from verifier.search.record import Recorder
from verifier.verdict import Semantics, Status, UnknownReason


class Ids:
    """Subproblems with nothing but ids."""

    def __init__(self, *ids: int) -> None:
        self.id = np.array(ids)


def recorded() -> Recorder:
    """Root 0 split into 1 and 2; 1 settled; 2 copied to 3 and 4; 3 settled; root 0 of one."""
    tree, none = Recorder(np.arange(1), 1), np.zeros(1)
    tree.split(Ids(0), none, none, 1)
    tree.settled(np.array([1]))
    tree.copied(2, 3)
    tree.settled(np.array([3]))
    return tree


def test_a_node_is_closed_when_all_below_it_is() -> None:
    tree = recorded()
    cells = {(c.depth, c.left): c for c in tree.picture().cells}
    assert tree.picture().nodes == 5
    assert {place for place, c in cells.items() if c.closed} == {(1, 0.0), (2, 0.5)}
    assert {place for place, c in cells.items() if c.split} == {(0, 0.0), (1, 0.5)}
    tree.settled(np.array([4]))
    assert all(c.closed for c in tree.picture().cells)


def test_very_many_roots_are_drawn_in_bundles() -> None:
    tree = Recorder(np.arange(100_000), 100_000)
    tree.settled(np.arange(50_000))
    cells = tree.picture().cells
    assert len(cells) <= 1000
    assert sum(c.width for c in cells) == pytest.approx(1)
    assert sum(c.width for c in cells if c.closed) == pytest.approx(0.5, abs=0.01)


def test_samples_are_thinned_and_the_last_is_kept() -> None:
    tree = Recorder(np.arange(1), 1)
    for i in range(10_000):
        tree.sample(Sample(float(i), i, 0, 0.0, None))
    tree.sample(Sample(1e6, 1, 0, 1.0, None), last=True)
    samples = tree.picture().samples
    assert len(samples) <= 401
    assert samples[-1].seconds == 1e6
    assert [s.seconds for s in samples] == sorted(s.seconds for s in samples)


@pytest.fixture(scope="module")
def undecided(examples: Path) -> Report:
    """A search that is stopped early."""
    model, spec = examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"
    return verify(model, spec, options=Options(max_domains=9), picture=True)


def test_the_hardest_region_has_the_worst_bound(undecided: Report) -> None:
    assert (undecided.status, undecided.stats.domains) == (Status.UNKNOWN, 9)
    region = undecided.hardest
    assert region is not None
    assert region.bound == undecided.lower_bound
    assert 0 < region.share <= 1 - undecided.closed_fraction
    assert region.ranges
    assert all(r.lower < r.upper and r.name in undecided.input_names for r in region.ranges)
    assert undecided.advice


def test_the_picture_is_an_svg_without_scripts(undecided: Report) -> None:
    text = svg(undecided)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    tags = {e.tag.split("}")[1] for e in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "polyline"}
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert undecided.picture is not None
    tree = [
        e
        for e in root.iter("{http://www.w3.org/2000/svg}rect")
        if e.get("class") in ("open", "closed", "split")
    ]
    assert len(tree) == len(undecided.picture.cells)


FACTS = Facts(UnknownReason.TIMEOUT, Semantics.REAL, 0.3, 5.0, True, "", 0.0, "", False)


def test_there_is_advice_for_every_reason() -> None:
    for reason in UnknownReason:
        if reason in (UnknownReason.NONE, UnknownReason.ROUNDING):
            continue
        facts = Facts(reason, Semantics.REAL, 0.3, 5.0, True, "", 0.0, "", False)
        assert advice(facts), reason
    rounding = Facts(UnknownReason.ROUNDING, Semantics.FLOAT32, 0.0, 5.0, True, "", 0.0, "", False)
    assert advice(rounding)[0].startswith("--semantics real")


def test_a_checkpoint_comes_first() -> None:
    facts = Facts(UnknownReason.CANCELLED, Semantics.REAL, 0.9, 5.0, True, "", 0.0, "run.ckpt", True)
    assert "--resume run.ckpt" in advice(facts)[0]
    assert len(advice(facts)) <= len(RULES)
