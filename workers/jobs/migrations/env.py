"""How Alembic reaches the database: over the connection that :func:`workers.jobs.database.migrate` opened."""

from __future__ import annotations

from alembic import context

from workers.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
