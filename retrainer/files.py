"""Files that several processes share: locks, and writes that survive a crash.

It is below every other layer, since models, databases, replays and cached answers all need it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import BaseFileLock


def exclusive_lock(path: Path, timeout: float = -1) -> BaseFileLock:
    """Return a context manager that holds an exclusive lock on a file. It creates the file and leaves it in place.

    Args:
        path: the lock file.
        timeout: seconds to wait for the lock; negative: wait until it is free.

    Raises:
        TimeoutError: on entering, another process held the lock for the whole time.
    """
    from filelock import FileLock  # noqa: PLC0415  slow to import, and rarely needed

    return FileLock(path, timeout=timeout, fallback_to_soft=False)


@contextmanager
def liveness_lock(folder: Path) -> Iterator[None]:
    """Mark a folder as in use by this process. The mark disappears with the process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # on the folder itself, which filelock cannot lock
        yield
    finally:
        os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Whether a folder exists that no process holds a `liveness_lock` on."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file so that readers, even after a crash, find the old content or all of the new.

    Args:
        path: the file; its folder exists.
        data: the content.
        mode: the permissions, before the umask.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with everything in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
