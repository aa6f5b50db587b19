"""The ledger records what is removed and set aside in the models folder."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "retrainer_ledger"
CONSTRAINT = "ck_retrainer_ledger_action"
LAST_ACTION = "'release'"
NEW_ACTIONS = "'release', 'cleanup', 'set_aside'"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_table()
        return
    op.drop_constraint(CONSTRAINT, TABLE, type_="check")
    op.create_check_constraint(
        CONSTRAINT,
        TABLE,
        "action IN ('promotion', 'rejection', 'rollback', 'archive', 'restore', 'prune', "
        f"'pin', 'unpin', 'hold', {NEW_ACTIONS})",
    )


def _rebuild_table() -> None:
    """Rebuild the table, since SQLite cannot change a constraint.

    Alembic's way, to drop the old table and then rename the new one, would break the references of rollbacks to the
    promotions that they undo.
    """
    connection = op.get_bind()
    query = "SELECT type = 'table', sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY 1 DESC"
    (_, table), *indexes_and_triggers = connection.exec_driver_sql(query, (TABLE,)).all()
    op.rename_table(TABLE, f"{TABLE}_old")
    op.execute(table.replace(LAST_ACTION, NEW_ACTIONS))
    op.execute(f"INSERT INTO {TABLE} SELECT * FROM {TABLE}_old ORDER BY entry_id")  # noqa: S608  constants
    op.drop_table(f"{TABLE}_old")
    for _, sql in indexes_and_triggers:
        op.execute(sql)
