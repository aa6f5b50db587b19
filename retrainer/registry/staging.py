"""Files on their way into the models folder, and how to tell those of a dead process from those of anybody else.

They are written to `.staging/<name>/`, at the paths that they will have in the models folder, and are moved into place
once the database knows them. The journal `.staging/<name>.journal` names that folder. It is written and synced before
the folder is made, and locked while its process lives: a folder named by a journal that nobody locks is the leftover
of a dead process. A folder without a journal is not the program's.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrainer.errors import DatabaseError, RetrainerError
from retrainer.files import files_in, sync
from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.uploads import Upload

STAGING = ".staging"
_SUFFIX = ".journal"
_JOURNALS = "[0-9a-f]" * 16 + _SUFFIX


@dataclass
class Staging:
    """A folder of files on their way into the models folder.

    Attributes:
        folder: the folder.
        registered: whether the database knows the files, or may; then they are kept until they are in place.
    """

    folder: Path
    registered: bool = False
    uploads: list[Upload] = field(default_factory=list)

    @contextmanager
    def keep_if_recorded(self) -> Iterator[None]:
        """Keep the files when an error leaves open whether the database knows them: the next run finds out."""
        try:
            yield
        except BaseException as error:  # a lost connection or an interrupt may come after the commit
            self.registered |= not isinstance(error, RetrainerError) or isinstance(error, DatabaseError)
            raise


@contextmanager
def open_staging(models_dir: Path, model_type: ModelTypeName) -> Iterator[Staging]:
    """Provide an empty folder, named in a journal; remove it at the end.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, folder = _create_journal(models_dir / STAGING, model_type)
    staging = Staging(folder)
    try:
        folder.mkdir()
        yield staging
    finally:
        with suppress(OSError):  # what cannot be removed now is left to the next run
            if not (staging.registered and files_in(folder)):
                _remove(folder)
        os.close(descriptor)


def find_abandoned(models_dir: Path) -> list[Path]:
    """Return the folders that journals of dead processes name, whether they exist or not."""
    folders = [journal.with_suffix("") for journal in sorted((models_dir / STAGING).glob(_JOURNALS))]
    return [folder for folder in folders if _is_abandoned(folder)]


@contextmanager
def claim_abandoned(folder: Path) -> Iterator[ModelTypeName | None]:
    """Lock the folder of a dead process, and remove it at the end.

    Yields:
        The model type that its files belong to; None if another process was faster.

    Raises:
        OSError: it cannot be removed.
    """
    with _lock_journal(folder, fcntl.LOCK_EX) as model_type:
        yield model_type
        if model_type is not None:
            _remove(folder)


def _is_abandoned(folder: Path) -> bool:
    with _lock_journal(folder, fcntl.LOCK_SH) as model_type:  # shared, so that those who only look do not collide
        return model_type is not None


def _journal_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _SUFFIX)


def _create_journal(parent: Path, model_type: ModelTypeName) -> tuple[int, Path]:
    """Create and lock the journal of a new folder; return its descriptor and the folder."""
    while True:
        folder = parent / secrets.token_hex(8)  # 16 digits
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # or another process has just removed the empty parent
            if not parent.parent.is_dir() or (os.path.lexists(parent) and not parent.is_dir()):
                raise
            continue
        try:
            descriptor = os.open(_journal_of(folder), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:  # another process has just removed the empty parent
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:  # another process took it for abandoned before it was locked
                os.close(descriptor)
                continue
            with open(descriptor, "wb", closefd=False) as file:
                file.write(_entry(folder, model_type))
            os.fsync(descriptor)
            sync(parent)
        except BaseException:
            with suppress(OSError):
                _remove(folder)
            os.close(descriptor)
            raise
        return descriptor, folder


@contextmanager
def _lock_journal(folder: Path, operation: int) -> Iterator[ModelTypeName | None]:
    """Lock the journal of a dead process and return its model type; None if the process lives or it is no journal."""
    try:
        descriptor = os.open(_journal_of(folder), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # removed meanwhile, another user's, or a link
        yield None
        return
    try:
        yield _read_journal(descriptor, folder) if _try_lock(descriptor, operation) else None
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_journal(descriptor: int, folder: Path) -> ModelTypeName | None:
    content = os.read(descriptor, 1000)
    if not content and not folder.exists():
        return MODEL_TYPE_NAMES[0]  # the process died before it could write: there is nothing to remove but the journal
    return next((name for name in MODEL_TYPE_NAMES if content == _entry(folder, name)), None)


def _entry(folder: Path, model_type: ModelTypeName) -> bytes:
    return (json.dumps({"folder": f"{STAGING}/{folder.name}", "model_type": model_type}) + "\n").encode()


def _remove(folder: Path) -> None:
    """Remove a folder, then its journal, then their parent if it is empty."""
    if folder.exists():
        shutil.rmtree(folder)  # refuses a symbolic link
    _journal_of(folder).unlink(missing_ok=True)
    with suppress(OSError):
        folder.parent.rmdir()
