"""Artefacts: whole files under their digests, or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from bounds.errors import BadInput, LimitExceeded
from workers.jobs.artifacts import Artifacts, WrongDigest
from workers.jobs.database import StoreUnreachable

DATA = b"certificate" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "files")


def drafts(store: Artifacts) -> list[Path]:
    return list((store.path / "drafts").iterdir())


def test_in_and_out(store: Artifacts) -> None:
    assert store.put([DATA[:7], DATA[7:]], expected=DIGEST) == (DIGEST, len(DATA))
    assert store.put_bytes(DATA) == (DIGEST, len(DATA))
    assert store.read(DIGEST) == DATA and store.has(DIGEST) and store.used() == len(DATA)
    with store.open(DIGEST) as file:
        assert file.read() == DATA
    assert drafts(store) == []
    assert store.delete(DIGEST) and not store.delete(DIGEST) and not store.has(DIGEST)


def test_a_file_becomes_a_jobs_artefact(store: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(DATA)
    made = store.put_file(source, "certificate", "application/zip")
    assert (made.name, made.sha256, made.size, made.media_type) == (
        "certificate", DIGEST, len(DATA), "application/zip",
    )  # fmt: skip


def test_wrong_digest_leaves_nothing(store: Artifacts) -> None:
    with pytest.raises(WrongDigest, match=DIGEST):
        store.put([DATA], expected="0" * 64)
    assert drafts(store) == [] and store.used() == 0


def test_limits_hold_while_streaming(store: Artifacts) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield DATA

    with pytest.raises(LimitExceeded, match="50000 bytes"):
        store.put(endless(), most=50_000)
    assert taken == 5 and drafts(store) == []


def test_quota(tmp_path: Path) -> None:
    store = Artifacts(tmp_path, quota=len(DATA) + 10)
    store.put_bytes(DATA)
    with pytest.raises(LimitExceeded, match="delete some"):
        store.put_bytes(b"x" * 11)
    store.put_bytes(b"x" * 10)
    assert drafts(store) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "ab" * 32 + "\n", "a/" * 32, "ab" * 31])
def test_names_are_digests_only(store: Artifacts, name: str) -> None:
    for call in (store.has, store.file, store.open, store.read, store.delete):
        with pytest.raises(BadInput, match="64 hexadecimal"):
            call(name)


def test_missing_and_damaged(store: Artifacts) -> None:
    with pytest.raises(BadInput, match="no file"):
        store.read(DIGEST)
    store.put_bytes(DATA)
    store.file(DIGEST).write_bytes(b"something else")
    with pytest.raises(WrongDigest, match="damaged"):
        store.read(DIGEST)
    with pytest.raises(LimitExceeded):
        store.read(DIGEST, most=3)


def test_collecting_keeps_what_is_named_or_young(store: Artifacts) -> None:
    kept, _ = store.put_bytes(b"kept")
    old, _ = store.put_bytes(b"old")
    young, _ = store.put_bytes(b"young")
    draft = store.path / "drafts" / "left"
    draft.write_bytes(b"")
    for path in (store.file(kept), store.file(old), draft):
        os.utime(path, (1, 1))
    assert store.collect({kept}) == 2
    assert [store.has(name) for name in (kept, old, young)] == [True, False, True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_said_and_leaves_nothing(store: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    # a real device without room: the draft is opened there
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda *_: opened(Path("/dev/full"), "wb"))
    writer = store.writer()
    monkeypatch.undo()
    with pytest.raises(StoreUnreachable, match="No space left"):
        for _ in range(100):
            writer.write(DATA)
    writer.discard()
    assert drafts(store) == []
