"""A lock on a study storage, for what Optuna does in more than one transaction.

`Study.ask` reads the waiting trials and then starts one; on SQLite, where there is no `FOR UPDATE`, two processes can
start the same. And no call of Optuna counts the trials and creates another one only if it is still wanted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from retrainer.registry.sqlite import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import RDBStorage


@contextmanager
def hold_lock(storage: RDBStorage, name: str) -> Iterator[None]:
    """Hold a lock for the block, which no other process or thread then holds; wait for it.

    It ends with the process that holds it, whatever ends that. It is not reentrant.

    Args:
        storage: SQLite: a lock on a file beside it. PostgreSQL: an advisory lock for the length of a transaction.
        name: what is locked, such as a study; SQLite has one lock for all.
    """
    url = storage.engine.url
    if url.get_backend_name() == "sqlite":
        path = lock_file(Path(str(url.database)))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    else:
        digest = hashlib.sha256(f"retrainer tuning {name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        with storage.engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            yield
