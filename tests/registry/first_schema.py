"""A project without a database, and a database as the first release left it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from retrainer.registry.database import Database
from tests.conftest import open_project


def remove_database(folder: Path) -> None:
    """Delete a SQLite database, or drop everything in a PostgreSQL one."""
    url = open_project(folder).settings.database.url
    if url.startswith("sqlite"):
        for path in (folder / "data").glob("retrainer.db*"):
            path.unlink()
        return
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()


def upgrade_to(connection: sa.Connection, revision: str) -> None:
    """Bring a database to a schema."""
    from alembic import command
    from alembic.config import Config

    from retrainer.registry import migrations

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    command.upgrade(config, revision)


def create_first_schema(folder: Path) -> Database:
    """Replace the database by one with the first schema, a version and a decision."""
    from retrainer.registry import database as module

    remove_database(folder)
    project = open_project(folder)
    engine = module.create_engine(project.settings.database.url, folder)
    database = Database(engine, folder)
    with engine.execution_options(retrainer_writes=True).begin() as connection:
        upgrade_to(connection, "0001")
        time = "2024-01-01 00:00:00.000000"
        connection.execute(
            sa.text(
                "INSERT INTO retrainer_model_versions (version_id, model_type, algorithm, trained_at, status, "
                "is_production, promoted_at, num_training_samples, training_duration_seconds, hyperparameters, "
                "file_path, manifest_sha256, trained_through, trained_through_post_id, pinned) "
                f"VALUES ('old', 'timing', 'baseline', '{time}', 'active', TRUE, '{time}', 10, 1.0, "
                f"'{{}}', 'models/timing/old', '{'0' * 64}', '{time}', 'p1', FALSE)"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO retrainer_ledger (at, recorded_at, model_type, action, version_id, to_version_id, actor, "
                f"automatic, reason, evidence) VALUES ('{time}', '{time}', 'timing', 'promotion', 'old', 'old', "
                "'me', TRUE, 'first', '{}')"
            )
        )
    return database
