"""The Alembic environment: runs on the connection, and in the transaction, that `Database.upgrade` opened."""

from alembic import context

from retrainer.registry.tables import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite can, though Alembic assumes it cannot
)
context.run_migrations()
