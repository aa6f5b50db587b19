"""The ledger records what is removed and set aside in the models folder."""

from alembic import op

from retrainer.registry.migrations.versions.r0002_guarded_ledger import guard_ledger

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CONSTRAINT = "ck_retrainer_ledger_action"
ACTIONS = "'promotion', 'rejection', 'rollback', 'archive', 'restore', 'prune', 'pin', 'unpin', 'hold', 'release'"
ADDED = "'cleanup', 'set_aside'"


def upgrade() -> None:
    allow_actions(ACTIONS, ADDED)


def allow_actions(before: str, added: str) -> None:
    """Let the ledger record more actions than before."""
    if op.get_bind().dialect.name == "sqlite":
        _copy_ledger(before, added)
        return
    op.drop_constraint(CONSTRAINT, "retrainer_ledger", type_="check")
    op.create_check_constraint(CONSTRAINT, "retrainer_ledger", f"action IN ({before}, {added})")


def _copy_ledger(actions: str, added: str) -> None:
    """Copy the ledger to a table with the new constraint, since SQLite cannot change one.

    The old table is renamed first: its rows refer to each other, and the references follow the name.
    """
    objects = op.get_bind().exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'retrainer_ledger' AND sql IS NOT NULL"
    )
    by_type: dict[str, dict[str, str]] = {"table": {}, "index": {}, "trigger": {}}
    for kind, name, sql in objects.all():
        by_type[kind][name] = sql
    for kind in ("index", "trigger"):
        for name in by_type[kind]:
            op.execute(f"DROP {kind} {name}")
    op.rename_table("retrainer_ledger", "retrainer_ledger_before")
    op.execute(by_type["table"]["retrainer_ledger"].replace(actions, f"{actions}, {added}"))
    op.execute("INSERT INTO retrainer_ledger SELECT * FROM retrainer_ledger_before")
    op.execute("DROP TABLE retrainer_ledger_before")
    for sql in by_type["index"].values():
        op.execute(sql)
    guard_ledger()
