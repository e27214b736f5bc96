"""What is asked at every submission and claim goes along an index: quotas, the next job, the next of its kin.

Also: processor seconds by tenant and hour in a table of their own. A sum over a day's jobs cost more with
every job, and whoever deleted a job was given its seconds back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spent",
        sa.Column("tenant", sa.String(length=80), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "hour"),
    )
    op.add_column("job", sa.Column("rank", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE job SET rank = -priority")
    _add_up()
    for name in ("job_next", "job_family", "job_parent"):
        op.drop_index(name, table_name="job")
    op.create_index("job_next", "job", ["state", "rank", "seq", "queue"], unique=False)
    op.create_index("job_family", "job", ["family", "state", "rank", "seq"], unique=False)
    op.create_index("job_answers", "job", ["family", "finished"], unique=False)
    op.create_index("job_held", "job", ["parent", "state", "tenant", "created"], unique=False)


def _add_up() -> None:
    """The hours that jobs have spent so far."""
    connection = op.get_bind()
    hours: dict[tuple[str, int], float] = {}
    query = "SELECT tenant, finished, cpu_seconds FROM job WHERE finished IS NOT NULL AND cpu_seconds > 0"
    for tenant, finished, seconds in connection.execute(sa.text(query)):
        place = (tenant, int(finished // 3600))
        hours[place] = hours.get(place, 0.0) + seconds
    add = sa.text("INSERT INTO spent (tenant, hour, cpu_seconds) VALUES (:tenant, :hour, :seconds)")
    for (tenant, hour), seconds in hours.items():
        connection.execute(add, {"tenant": tenant, "hour": hour, "seconds": seconds})


def downgrade() -> None:
    for name in ("job_answers", "job_held", "job_family", "job_next"):
        op.drop_index(name, table_name="job")
    op.drop_column("job", "rank")
    op.create_index("job_parent", "job", ["parent"], unique=False)
    op.create_index("job_family", "job", ["family", "state"], unique=False)
    op.create_index("job_next", "job", ["state", "queue", "priority", "seq"], unique=False)
    op.drop_table("spent")
