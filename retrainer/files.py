"""Files that several processes share: locks, and writes that survive a crash.

It is below every other layer, since models, databases, replays and cached answers all need it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

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


def open_within(folder: Path, parts: Sequence[str]) -> BinaryIO:
    """Open a regular file below a folder for reading. It follows no link below the folder, and waits for nothing.

    Args:
        folder: the folder; it may be a link itself.
        parts: the names of the subfolders and of the file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened, a part is a link or leads out of the folder, or it is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if any(part in {"", ".", ".."} or "/" in part for part in parts):
        raise OSError(errno.EINVAL, "it is not below its folder")
    with ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        for part in parts[:-1]:
            try:
                descriptor = os.open(part, flags | os.O_DIRECTORY, dir_fd=descriptor)
            except NotADirectoryError as error:
                raise OSError(errno.ENOTDIR, f"'{part}' is a link or not a folder") from error
            stack.callback(os.close, descriptor)
        try:
            return _as_regular_file(os.open(parts[-1], flags, dir_fd=descriptor))
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                raise OSError(error.errno, _NOT_REGULAR[error.errno]) from error
            raise


_NOT_REGULAR = {errno.ELOOP: "it is a link", errno.ENXIO: "it is a socket"}


def _as_regular_file(descriptor: int) -> BinaryIO:
    """Return the file of a descriptor, which is closed if it is not a regular file."""
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise OSError(errno.EINVAL, f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a regular file")
    return os.fdopen(descriptor, "rb")


@contextmanager
def private_folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Provide a temporary folder with these files, which only this user can read; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="retrainer-") as folder:
        write_files(files, Path(folder))
        yield Path(folder)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files, by path relative to a folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


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
