"""The database schema, step by step. `REVISIONS` names the steps in order, so that a look needs no Alembic."""

REVISIONS = ("0001", "0002", "0003")
HEAD = REVISIONS[-1]
