"""Posts belong to streams, those there are to `default`, and remember that a correction moved them in time.

A posts table that is not ours is left alone.
"""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import POSTS_TABLE, UTCDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEX_BEFORE = "ix_retrainer_posts_created_at"
INDEX = "ix_retrainer_posts_stream_created_at"


def upgrade() -> None:
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    is_ours = inspector.has_table(POSTS_TABLE) and any(
        index["name"] == INDEX_BEFORE for index in inspector.get_indexes(POSTS_TABLE)
    )
    if not is_ours:
        return
    if connection.dialect.name == "sqlite":
        _copy_posts(connection, inspector)
    else:
        op.add_column(POSTS_TABLE, sa.Column("stream", sa.Text, nullable=False, server_default="default"))
        for name in ("moved_from", "moved_at"):
            op.add_column(POSTS_TABLE, sa.Column(name, UTCDateTime))
        op.drop_constraint(str(inspector.get_pk_constraint(POSTS_TABLE)["name"]), POSTS_TABLE, type_="primary")
        op.create_primary_key(f"{POSTS_TABLE}_pkey", POSTS_TABLE, ["stream", "post_id"])
        op.drop_index(INDEX_BEFORE, POSTS_TABLE)
    op.create_index(INDEX, POSTS_TABLE, ["stream", "created_at", "post_id"])


def _copy_posts(connection: sa.Connection, inspector: sa.Inspector) -> None:
    """Copy the posts to a table with the new primary key, since SQLite cannot change one.

    Columns, indexes and triggers that a user has added stay.
    """
    copy = f"retrainer_{POSTS_TABLE}_copy"
    ours = ("post_id", "created_at", "content", "replies_count", "reblogs_count", "favourites_count", "imported_at")
    added = [column for column in inspector.get_columns(POSTS_TABLE) if column["name"] not in ours]
    names = [*ours, *(column["name"] for column in added)]
    query = sa.text(
        "SELECT sql FROM sqlite_master WHERE tbl_name = :table AND type IN ('index', 'trigger') "
        "AND sql IS NOT NULL AND name <> :ours"
    )
    dependents = connection.scalars(query, {"table": POSTS_TABLE, "ours": INDEX_BEFORE}).all()
    op.create_table(
        copy,
        sa.Column("stream", sa.Text, primary_key=True, server_default="default"),
        sa.Column("post_id", sa.Text, primary_key=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("replies_count", sa.BigInteger),
        sa.Column("reblogs_count", sa.BigInteger),
        sa.Column("favourites_count", sa.BigInteger),
        sa.Column("imported_at", UTCDateTime, nullable=False),
        sa.Column("moved_from", UTCDateTime),
        sa.Column("moved_at", UTCDateTime),
        *(sa.Column(column["name"], column["type"]) for column in added),
    )
    stored = sa.select(sa.table(POSTS_TABLE, *map(sa.column, names)))
    op.execute(sa.insert(sa.table(copy, *map(sa.column, names))).from_select(names, stored))
    op.execute(f"DROP TABLE {POSTS_TABLE}")
    before = connection.exec_driver_sql("PRAGMA legacy_alter_table").scalar()
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")  # a user's view of the posts is no obstacle
    op.rename_table(copy, POSTS_TABLE)
    connection.exec_driver_sql(f"PRAGMA legacy_alter_table={before}")
    for statement in dependents:
        connection.exec_driver_sql(statement)
