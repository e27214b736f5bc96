"""Mutated uploads and properties: the server answers each of them, never with 5xx, and stays alive.

Small here; ``benchmarks/service_fuzz.py`` runs the same mutations in the hundred thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from service_mutations import ROUNDS_PER_TEST, Tally, fuzz
from service_server import Running, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    with serving(folder, max_upload=300_000, max_unpacked=1_000_000, max_property=50_000) as running:
        yield running


@pytest.mark.parametrize("what", ["model", "gzip", "vnnlib", "body", "path"])
def test_mutations_are_answered(server: Running, examples: Path, what: str) -> None:
    data = server.artifacts.path.parent
    before = {*data.parent.iterdir(), *data.iterdir()}
    tally: Tally = fuzz(server.url, examples, what, ROUNDS_PER_TEST, seed=1)
    assert sum(tally.values()) == ROUNDS_PER_TEST
    assert not [status for status in tally if status >= 500], tally
    assert len(tally) >= 2, f"mutations should be taken and refused: {tally}"
    # nothing left the folder of artefacts, and no draft stayed
    assert {*data.parent.iterdir(), *data.iterdir()} == before
    assert list((server.artifacts.path / "drafts").iterdir()) == []
    with server.client() as client:
        assert client.get("/livez").status_code == 200
