"""Alembic's entry: runs inside the transaction and on the connection that `Database.upgrade` opened."""

from alembic import context

from retrainer.registry.tables import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite can, but Alembic assumes that it cannot
)
context.run_migrations()
