"""What Alembic runs to migrate: on the connection that the caller holds, in the caller's transaction."""

from __future__ import annotations

from alembic import context

from crossfarm.reports.history.columns import VERSION_TABLE
from crossfarm.reports.history.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
