"""Files that several processes share: locks, and writes that survive a crash.

It is below every other layer, since models, databases, replays and cached answers all need it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, and links, which are not followed."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
