"""The tables of the job store, as SQLAlchemy knows them; ``migrations/`` makes them (a test compares)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
# SQLite numbers rows by itself only where the key is called INTEGER
_ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "job",
    metadata,
    Column("seq", _ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("tenant", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("request", JSON, nullable=False),
    Column("budget", JSON, nullable=False),
    Column("queue", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("queued", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("worker", String(120), nullable=False),
    Column("lease_until", Double),
    Column("lease_s", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("answer", String(16)),
    Column("reason", Text, nullable=False),
    Column("result", JSON, nullable=False),
    Column("error", Text, nullable=False),
    Column("artifacts", JSON, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("family", String(80), nullable=False),
    Column("question", String(80), nullable=False),
    Column("parent", String(40), nullable=False),
    Column("cached_from", String(40), nullable=False),
    Column("cpu_seconds", Double, nullable=False),
    # -priority, so that the order in which jobs are taken is that of an index, which goes one way only
    Column("rank", Integer, nullable=False, server_default="0"),
    Index("job_next", "state", "rank", "seq", "queue"),
    Index("job_family", "family", "state", "rank", "seq"),
    Index("job_answers", "family", "finished"),
    Index("job_held", "parent", "state", "tenant", "created"),
    Index("job_question", "tenant", "question"),
    Index("job_listed", "tenant", "created", "id"),
)

events = Table(
    "event",
    metadata,
    Column("job", String(40), ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", String(16), nullable=False),
    Column("at", Double, nullable=False),
    Column("data", JSON, nullable=False),
)

# one row a tenant: whoever counts before inserting locks it, so that two cannot count the same
tenants = Table("tenant", metadata, Column("name", String(80), primary_key=True))

# processor seconds of a tenant's jobs that ended in an hour (since 1970)
spent = Table(
    "spent",
    metadata,
    Column("tenant", String(80), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("cpu_seconds", Double, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(80), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(80), nullable=False),
    Column("job", String(40), ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("created", Double, nullable=False),
)

models = Table(
    "model",
    metadata,
    Column("seq", _ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("sha256", String(64), nullable=False),
    Column("tenant", String(80), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("facts", JSON, nullable=False),
    UniqueConstraint("tenant", "sha256", name="model_once"),
)

keys = Table(
    "key",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(80), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created", Double, nullable=False),
    Column("note", Text, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("last_used", Double),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("tenant", String(80), nullable=False),
    Column("action", String(80), nullable=False),
    Column("detail", JSON, nullable=False),
)

workers = Table(
    "worker",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("seen", Double, nullable=False),
    Column("queues", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
)
