"""Artefacts: whole files under their digests, or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from bounds.errors import BadInput, LimitExceeded
from workers.jobs.artifacts import Artifacts, WrongDigest
from workers.jobs.database import StoreUnreachable
from workers.jobs.remote_artifacts import RemoteArtifacts, open_artifacts

DATA = b"certificate" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """A server that speaks S3, in this process; options for who asks it."""
    how = "pip install --group s3"
    pytest.importorskip("s3fs", reason=how)
    moto = pytest.importorskip("moto.server", reason=how)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = {"region_name": "eu-west-1"}
    options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}", "client_kwargs": client}
    yield options
    server.stop()


class Places:
    """Stores of one kind: the same originals, each host with a folder of its own."""

    def __init__(self, url: str, folder: Path, options: dict[str, Any]) -> None:
        self.url, self.folder, self.options, self.hosts = url, folder, options, 0

    def open(self, **more: Any) -> Artifacts:
        self.hosts += 1
        if not self.url:
            return Artifacts(self.folder / "files", **more)
        return RemoteArtifacts(self.url, self.folder / f"host-{self.hosts}", **more, **self.options)


@pytest.fixture(params=["folder", "memory", "s3"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    if request.param == "folder":
        return Places("", tmp_path, {})
    pytest.importorskip("fsspec", reason="pip install 'surebound[s3]'")
    if request.param == "memory":
        return Places(f"memory://{tmp_path.name}", tmp_path, {})
    options = request.getfixturevalue("s3")
    import s3fs

    bucket = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    s3fs.S3FileSystem(**options).mkdir(bucket)
    return Places(f"s3://{bucket}/some/prefix", tmp_path, options)


@pytest.fixture
def store(places: Places) -> Artifacts:
    return places.open()


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


def test_quota(places: Places) -> None:
    store = places.open(quota=len(DATA) + 10)
    store.put_bytes(DATA)
    with pytest.raises(LimitExceeded, match="delete some"):
        store.put_bytes(b"x" * 11)
    store.put_bytes(b"x" * 10)
    assert drafts(store) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "ab" * 32 + "\n", "a/" * 32, "ab" * 31])
def test_names_are_digests_only(store: Artifacts, name: str) -> None:
    for call in (store.has, store.file, store.open, store.read, store.delete, store.touch):
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
    names = [store.put_bytes(data)[0] for data in (b"kept", b"old", b"older")]
    assert store.collect({names[0]}) == 0
    assert store.collect({names[0]}, older_s=-60.0) == 2  # older than in a minute: all are
    assert [store.has(name) for name in names] == [True, False, False]


def test_age_is_that_of_the_file(tmp_path: Path) -> None:
    store = Artifacts(tmp_path)
    kept, _ = store.put_bytes(b"kept")
    old, _ = store.put_bytes(b"old")
    young, _ = store.put_bytes(b"young")
    draft = store.path / "drafts" / "left"
    draft.write_bytes(b"")
    for path in (store.file(kept), store.file(old), draft):
        os.utime(path, (1, 1))
    assert store.collect({kept}) == 2
    assert [store.has(name) for name in (kept, old, young)] == [True, False, True]


def test_what_is_named_anew_is_young(store: Artifacts) -> None:
    old, _ = store.put_bytes(b"old")  # an object's age cannot be feigned: its copy's is
    os.utime(store.file(old), (1, 1))
    assert store.touch(old) and store.collect(set()) == 0 and store.has(old)
    assert not store.touch("0" * 64)


def test_every_host_sees_what_one_has_written(places: Places) -> None:
    mine, theirs = places.open(), places.open()
    assert mine.put_bytes(DATA) == (DIGEST, len(DATA))
    assert theirs.has(DIGEST) and theirs.read(DIGEST) == DATA and theirs.used() == len(DATA)
    assert drafts(theirs) == []
    assert theirs.collect(set(), older_s=-60.0) == 1
    assert not theirs.has(DIGEST) and mine.used() == 0
    with pytest.raises(BadInput, match="no file"):
        places.open().file(DIGEST)


def test_an_object_that_is_damaged_is_not_taken(places: Places) -> None:
    mine = places.open()
    mine.put_bytes(DATA)
    if isinstance(mine, RemoteArtifacts):
        mine._fs.pipe_file(mine._key(DIGEST), b"something else")
    else:
        mine.file(DIGEST).write_bytes(b"something else")
    theirs = places.open()
    with pytest.raises(WrongDigest, match=DIGEST):
        theirs.read(DIGEST)
    assert drafts(theirs) == []
    assert not isinstance(theirs, RemoteArtifacts) or not Artifacts.has(theirs, DIGEST)


def test_a_store_that_is_away_is_said(tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="pip install 'surebound[s3]'")
    client = {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}
    more = {"client_kwargs": client, "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}
    store = RemoteArtifacts("s3://bucket/x", tmp_path, key="k", secret="s", **more)  # noqa: S106 - nobody's
    with pytest.raises(StoreUnreachable, match="does not answer"):
        store.put_bytes(DATA)
    with pytest.raises(BadInput, match="s3://bucket"):
        open_artifacts(tmp_path, "nothing://x")


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
