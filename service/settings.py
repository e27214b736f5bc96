"""Settings of the service: one value, passed on explicitly; from arguments and SUREBOUND_* variables."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20


class Settings(BaseSettings):
    """What an operator may decide. Every field can be given as ``SUREBOUND_<FIELD>``.

    Sizes are bytes unless the name says otherwise, times are seconds.
    """

    model_config = SettingsConfigDict(env_prefix="SUREBOUND_", extra="ignore", frozen=True)

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; beyond loopback, keys are required."
    )
    port: int = Field(default=8732, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data: Path = Field(
        default=Path("surebound-data"), description="Folder of the database and the artefacts."
    )
    database: str = Field(default="", description="SQLAlchemy URL; not given: SQLite in the data folder.")
    artifacts: str = Field(
        default="",
        description="Object store for files, such as s3://bucket/prefix; not given: the data folder.",
    )
    retention_days: float = Field(
        default=30.0, ge=0, description="For which files of ended jobs are kept at least; 0: for ever."
    )
    broker: str = Field(default="", description="Redis that tells Celery workers of jobs; not given: none.")
    require_keys: bool | None = Field(
        default=None,
        description="Whether every call needs a key; not given: only when listening beyond loopback.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names that callers may use besides loopback, where no keys are required.",
    )
    slots: int = Field(default=1, ge=0, le=1024, description="Jobs that the local supervisor runs at a time.")

    max_upload: int = Field(default=1024 * MIB, ge=1, description="Largest uploaded file.")
    max_unpacked: int = Field(
        default=4096 * MIB, ge=1, description="Largest content of an uploaded gzip file."
    )
    max_body: int = Field(default=16 * MIB, ge=1024, description="Largest body of any other request.")
    max_property: int = Field(default=8 * MIB, ge=1, description="Largest property text.")

    default_timeout_s: float = Field(default=60.0, gt=0, description="Time limit of a job that names none.")
    max_timeout_s: float = Field(default=4 * 3600.0, gt=0, description="Largest time limit of a job.")
    default_memory_mb: int = Field(default=2048, ge=64, description="Memory limit of a job that names none.")
    max_memory_mb: int = Field(default=16384, ge=64, description="Largest memory limit of a job.")
    max_attempts: int = Field(default=3, ge=1, le=20, description="Executions of a job that may be begun.")
    max_shards: int = Field(
        default=16, ge=0, le=1024, description="Most workers on one search; 0: none is dealt out."
    )
    long_after_s: float = Field(
        default=300.0, gt=0, description="Jobs with a larger time limit queue as 'long'."
    )

    quota_queued: int = Field(default=20000, ge=1, description="Most queued jobs of one tenant.")
    quota_running: int = Field(default=1000, ge=1, description="Most running jobs of one tenant.")
    quota_bytes: int = Field(default=50 * 1024 * MIB, ge=1, description="Most uploaded bytes of one tenant.")
    quota_cpu_s: float = Field(
        default=30 * 24 * 3600.0, gt=0, description="Most processor seconds of one tenant in a day."
    )

    rate_per_s: float = Field(
        default=50.0, ge=0, description="Calls of one key in a second, on average; 0: not limited."
    )
    rate_burst: int = Field(default=500, ge=1, description="Calls of one key that may come at once.")

    events_poll_s: float = Field(default=0.25, gt=0, description="How often an event stream reads the store.")
    events_ping_s: float = Field(
        default=15.0, gt=0, description="Silence after which an event stream sends a ping."
    )
    grace_s: float = Field(default=10.0, gt=0, description="How long open requests may take when stopping.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default_timeout_s > self.max_timeout_s:
            raise ValueError("default_timeout_s is above max_timeout_s; lower the one or raise the other")
        if self.default_memory_mb > self.max_memory_mb:
            raise ValueError("default_memory_mb is above max_memory_mb; lower the one or raise the other")
        if self.require_keys is False and not loopback(self.host):
            raise ValueError(
                f"require_keys is off but {self.host} can be reached from other machines; listen on 127.0.0.1"
            )
        return self

    @property
    def keys_required(self) -> bool:
        """Whether every call needs a key."""
        return not loopback(self.host) if self.require_keys is None else self.require_keys

    @property
    def database_url(self) -> str:
        """The database, by default a file beside the artefacts."""
        return self.database or f"sqlite:///{self.data.resolve() / 'surebound.db'}"


@lru_cache(maxsize=256)  # asked for every request
def loopback(host: str) -> bool:
    """Whether an address (or ``localhost``) means this machine only; other names do not count."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
