"""The file of a backup: a SQLite database, and the SHA-256 of everything before it as its last line."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from retrainer.errors import ArtifactError, DatabaseError, RetrainerError
from retrainer.files import open_regular, report_write_errors, sync
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.database import Database, create_engine
from retrainer.registry.migrations import REVISIONS
from retrainer.registry.place import require_plain_paths
from retrainer.registry.tables import VERSION_TABLE, Base, DatabaseIdentity, ModelVersion, VersionFile

if TYPE_CHECKING:
    from io import BufferedRandom
    from pathlib import Path
    from types import UnionType

FORMAT = 1
DATABASE = "backup.db"
URL = f"sqlite:///{DATABASE}"
INFO = sa.table("retrainer_backup", sa.column("info", sa.JSON))
_LABEL = b"\nretrainer backup, SHA-256 "
_SEAL_BYTES = len(_LABEL) + 64 + 1


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        file: the backup.
        created_at: when it was made.
        release: the release of retrainer that made it.
        versions: the number of versions.
        runs: the number of runs.
        posts: the number of posts; None if they are in a table that retrainer only reads.
    """

    file: Path
    created_at: datetime
    release: str
    versions: int
    runs: int
    posts: int | None


def describe(file: Path, info: dict[str, Any]) -> Backup:
    created_at = datetime.fromisoformat(info["created_at"])
    return Backup(file, created_at, info["release"], info["versions"], info["runs"], info["posts"])


def seal(path: Path) -> None:
    """Append the SHA-256 of a file to it, and make it durable. SQLite ignores what follows its last page."""
    with path.open("rb+") as file:
        file.write(_seal_of(file))
    sync(path)


def _seal_of(file: BufferedRandom) -> bytes:
    """Return the last line of a backup for the content of a file."""
    return _LABEL + hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def copy_verified(file: Path, target: Path) -> None:
    """Copy a backup and verify the copy, which nobody else can change.

    Raises:
        RetrainerError: it cannot be read, is not a backup, is incomplete, or was changed.
    """
    try:
        source = open_regular(file)
    except OSError as error:
        raise RetrainerError(f"cannot read '{file}': {error.strerror}", hint="Check the path") from error
    with source, report_write_errors(target), target.open("wb+") as copy:
        shutil.copyfileobj(source, copy)
        end = max(copy.tell() - _SEAL_BYTES, 0)
        copy.seek(end)
        seal = copy.read()
        if not seal.startswith(_LABEL):
            raise RetrainerError(f"'{file}' is not a backup, or is incomplete", hint="Use another backup")
        copy.truncate(end)
        copy.seek(0)
        if seal != _seal_of(copy):
            raise RetrainerError(f"'{file}' was changed: its SHA-256 is wrong", hint="Use another backup")


def read_info(folder: Path, file: Path) -> dict[str, Any]:
    """Read what a verified backup says about itself.

    Raises:
        RetrainerError: it was made by a newer release, or is not a backup.
    """
    try:
        with closing(Database(create_engine(URL, folder), folder)) as backup, backup.snapshot() as connection:
            info = _require_valid(connection.execute(sa.select(INFO)).scalar_one())
            views = sa.inspect(connection).get_view_names()
            revision = connection.execute(
                sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))
            ).scalar()
    except (DatabaseError, sa.exc.SQLAlchemyError, ValueError, TypeError, KeyError) as error:
        raise not_a_backup(file) from error
    if info["format"] > FORMAT or info["revision"] not in REVISIONS:
        raise RetrainerError(f"'{file}' was made by the newer release {info['release']}", hint="Upgrade retrainer")
    if views or revision != info["revision"]:
        raise not_a_backup(file)
    return info


def _require_valid(info: Any) -> dict[str, Any]:
    """Check the types of what a backup says about itself.

    Raises:
        KeyError, TypeError, ValueError: they are wrong.
    """
    kinds: dict[str, type | UnionType] = {
        "format": int,
        "created_at": str,
        "release": str,
        "revision": str,
        "versions": int,
        "runs": int,
        "posts": int | None,
        "large_files": list,
        "settings": str,
    }
    for name, kind in kinds.items():
        if not isinstance(info[name], kind):
            raise TypeError(name)
    if datetime.fromisoformat(info["created_at"]).tzinfo is None:
        raise ValueError("created_at")
    for version_id, path in info["large_files"]:
        if not (isinstance(version_id, str) and isinstance(path, str)):
            raise TypeError("large_files")
    valid: dict[str, Any] = info
    return valid


def require_plain_names(backup: Database, file: Path) -> None:
    """Check that the names from which paths are made cannot lead out of the models folder.

    Raises:
        RetrainerError: one can, or a table is missing.
    """
    versions = sa.select(ModelVersion.version_id, ModelVersion.model_type)
    files = sa.select(VersionFile.version_id, VersionFile.path).order_by(VersionFile.version_id)
    try:
        with backup.snapshot() as connection:
            if not {table.name for table in Base.metadata.sorted_tables} <= {*sa.inspect(connection).get_table_names()}:
                raise not_a_backup(file)
            if len(connection.execute(sa.select(DatabaseIdentity.database_id)).all()) != 1:
                raise not_a_backup(file)
            for version_id, model_type in connection.execute(versions):
                if model_type not in MODEL_TYPE_NAMES or "/" in version_id:
                    raise not_a_backup(file)
                require_plain_paths([version_id], version_id)
            for version_id, rows in itertools.groupby(connection.execute(files), key=lambda row: str(row.version_id)):
                require_plain_paths((row.path for row in rows), version_id)
    except (ArtifactError, DatabaseError, sa.exc.SQLAlchemyError, TypeError, AttributeError) as error:
        raise not_a_backup(file) from error


def not_a_backup(file: Path) -> RetrainerError:
    return RetrainerError(f"'{file}' is not a backup of retrainer", hint="Use another backup")
