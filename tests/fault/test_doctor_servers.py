"""``verify doctor`` beside a real queue: up, with a password, gone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from queue_parts import Redis

from service.doctor import checks
from verifier.doctor.model import Level


def broker() -> tuple[Level, str]:
    found = next(f for f in checks() if f.subject == "broker")
    return found.level, found.found


def test_a_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = Redis(tmp_path)
    monkeypatch.setenv("SUREBOUND_BROKER", server.url)
    try:
        assert broker() == (Level.OK, f"{server.url}: answers")
        cli = Path(server.binary).with_name("valkey-cli")
        if cli.exists():
            command = [str(cli), "-p", str(server.port), "CONFIG", "SET", "requirepass", "pw"]
            subprocess.run(command, check=True, capture_output=True)
        else:
            import redis

            redis.Redis(port=server.port).config_set("requirepass", "pw")
        level, text = broker()
        assert level is Level.PROBLEM and "NOAUTH" in text
        with_password = server.url.replace("//", "//:pw@")
        monkeypatch.setenv("SUREBOUND_BROKER", with_password)
        assert broker()[0] is Level.OK and "pw" not in broker()[1]
        monkeypatch.setenv("SUREBOUND_BROKER", server.url.replace("//", "//:wrong@"))
        level, text = broker()
        assert level is Level.PROBLEM and "WRONGPASS" in text
    finally:
        server.kill()
    assert broker()[0] is Level.PROBLEM
