"""Files that several processes share: locks, and writes that survive a crash.

It is below every other layer, since models, databases, replays and cached answers all need it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import BufferedReader, BufferedWriter

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


def open_regular(path: Path, *, pipe: bool = False) -> BufferedReader:
    """Open a regular file for reading, without waiting for anything else. Links are followed.

    Args:
        pipe: whether what the shell passes as `<(…)` or /dev/stdin will do too.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    descriptor = _open(path, os.O_RDONLY)
    if pipe and _is_anonymous_pipe(descriptor):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    return os.fdopen(_require_regular(descriptor), "rb")


def open_output(path: Path, *, append: bool = False) -> BufferedWriter:
    """Open a file for writing, created if it is missing. A terminal, /dev/null and /dev/stdout will do too.

    Args:
        append: keep what it holds.

    Raises:
        OSError: it cannot be opened, or is a named pipe, whose reader could let this process wait, or a block device.
    """
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0))
    if stat.S_ISCHR(os.fstat(descriptor).st_mode) or _is_anonymous_pipe(descriptor):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "wb")
    file = os.fdopen(_require_regular(descriptor), "wb")
    if not append:
        file.truncate(0)
    return file


def is_possible_output(path: Path) -> bool:
    """Whether `open_output` would open what is at a path now, without opening it."""
    return not path.exists() or path.is_file() or path.is_char_device()


def open_within(folder: Path, parts: Sequence[str]) -> BufferedReader:
    """Open a regular file below a folder for reading. It follows no link below the folder, and waits for nothing.

    Args:
        folder: the folder; it may be a link itself.
        parts: the names of the subfolders and of the file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened, a part is a link or leads out of the folder, or it is not a regular file.
    """
    if any(part in {"", ".", ".."} or "/" in part for part in parts):
        raise OSError(errno.EINVAL, "it is not below its folder")
    with ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        for part in parts[:-1]:
            try:
                descriptor = _open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, descriptor)
            except NotADirectoryError as error:
                raise OSError(errno.ENOTDIR, f"'{part}' is a link or not a folder") from error
            stack.callback(os.close, descriptor)
        return os.fdopen(_require_regular(_open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW, descriptor)), "rb")


def _open(path: Path | str, flags: int, folder: int | None = None) -> int:
    """Open a file, without waiting for the other end of a pipe; return its descriptor."""
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a socket, or a pipe that nobody reads") from error
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link") from error
        raise


def _is_anonymous_pipe(descriptor: int) -> bool:
    """Whether a descriptor is a pipe without a name, whose other end is a process that has it open."""
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return False
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")  # noqa: PTH115  not a path
    except OSError:  # not Linux
        return False


def _require_regular(descriptor: int) -> int:
    """Return a descriptor of a regular file; close any other and raise OSError."""
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise OSError(errno.EINVAL, f"it is {kinds.get(kind, 'a device')}, not a regular file")
    return descriptor


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


def write_output(path: Path, data: bytes) -> None:
    """Write a file that the user has named: whole or not at all, unless it is a link or no regular file.

    Args:
        path: the file; its folder exists.
        data: the content.

    Raises:
        OSError: it cannot be written; see `open_output`.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):  # such as /dev/stdout
        with open_output(path) as file:
            file.write(data)
    else:
        write_atomically(path, data, path.stat().st_mode & 0o777 if path.exists() else 0o666)


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file so that readers, even after a crash, find the old content or all of the new.

    Args:
        path: the file; its folder exists.
        data: the content.
        mode: the permissions, before the umask.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Anyone may have put a link there, in a folder such as /tmp.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, mode), "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Provide the path of a temporary file that becomes a file at the end: whole, or not at all.

    Args:
        replace: whether it may replace a regular file.

    Raises:
        UsageError: something is at the path already.
        RetrainerError: it cannot be written.
    """
    with report_write_errors(path):
        _require_free(path, replace=replace)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / "new"
            yield temporary
            sync(temporary)
            _require_free(path, replace=replace)
            temporary.replace(path)
        sync(path.parent)


def _require_free(path: Path, *, replace: bool) -> None:
    if os.path.lexists(path) and not (replace and stat.S_ISREG(path.lstat().st_mode)):
        raise UsageError(f"'{path}' {'is not a regular file' if replace else 'exists'}", hint="Choose another name")


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


def require_readable(folder: Path) -> None:
    """Check that a folder can be listed, unless it is missing.

    Raises:
        OSError: it cannot.
    """
    with suppress(FileNotFoundError), os.scandir(folder):
        pass


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, and links, which are not followed."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


@contextmanager
def report_write_errors(path: Path, kind: type[RetrainerError] = RetrainerError) -> Iterator[None]:
    """Translate an OSError into an error that says why a file or folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"cannot write to '{path}': {error.strerror}", hint="Check its folder, permissions and the free disk space"
        ) from error
