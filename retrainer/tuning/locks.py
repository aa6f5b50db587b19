"""A lock on a study storage, for what Optuna does in more than one transaction.

`Study.ask` reads the waiting trials and then starts one; on SQLite, where there is no `FOR UPDATE`, two processes can
start the same. And no call of Optuna counts the trials and creates another one only if it is still wanted.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from retrainer.files import exclusive_lock
from retrainer.registry.sqlite import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def hold_lock(engine: sa.Engine, name: str) -> Iterator[None]:
    """Hold a lock for the block, which no other process or thread then holds; wait for it.

    It ends with the process that holds it, whatever ends that. It is not reentrant.

    Args:
        engine: of the storage. SQLite: a lock on a file beside it. PostgreSQL: an advisory lock, for the length of a
            transaction.
        name: what is locked, such as a study; SQLite has one lock for all.
    """
    if engine.url.get_backend_name() == "sqlite":
        with exclusive_lock(lock_file(Path(str(engine.url.database)))):
            yield
    else:
        digest = hashlib.sha256(f"retrainer tuning {name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            yield
