"""Back up a project to one file, and restore it.

A backup is a SQLite database with the project's tables and all model files, whichever database the project uses. It can
be restored to either, and read with any SQLite tool. Its last line is the SHA-256 of everything before it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import yaml

from retrainer import __version__
from retrainer.errors import ArtifactError, DatabaseError, RetrainerError, UsageError
from retrainer.files import open_regular, sync
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry import snapshot
from retrainer.registry.artifacts import Artifacts, require_plain_paths
from retrainer.registry.database import Database, create_engine
from retrainer.registry.migrations import HEAD, REVISIONS
from retrainer.registry.registry import Registry
from retrainer.registry.tables import POSTS_TABLE, VERSION_TABLE, Base, ModelVersion, TrainingRun, VersionFile
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from types import UnionType

    from retrainer.project import Project

log = logging.getLogger(__name__)

FORMAT = 1
SETTINGS = "config.from-backup.yaml"  # where the settings of a backup are written, if they differ from the project's
_DATABASE = "backup.db"
_URL = f"sqlite:///{_DATABASE}"
_LABEL = b"\nretrainer backup, SHA-256 "
_SEAL_BYTES = len(_LABEL) + 64 + 1
_INFO = sa.table("retrainer_backup", sa.column("info", sa.JSON))
_SECRET = re.compile(r"([?&;][^=&?\s]*(?:passw|secret|token)[^=&\s]*=)[^&\n]+", re.IGNORECASE)  # in a URL's query
_WEB = re.compile(r"https?://", re.IGNORECASE)


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


def back_up(project: Project, file: Path, now: datetime) -> Backup:
    """Write a backup of a project, as it is at one moment, whatever runs meanwhile.

    Raises:
        UsageError: the file exists.
        RetrainerError: it cannot be written.
    """
    with _report_write_errors(file):
        _refuse_existing(file)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
            made = Path(folder) / _DATABASE
            info = _write(project, made, now)
            _seal(made)
            _refuse_existing(file)
            made.rename(file)
        sync(file.parent)
    return _describe(file, info)


def restore_backup(project: Project, file: Path, *, replace: bool = False) -> Backup:
    """Restore a backup to the database and the models folder of a project.

    The database changes in one transaction, after the backup was verified. Posts in the database, and files in the
    models folder, are kept.

    Args:
        replace: whether to replace what the database holds.

    Raises:
        UsageError: the database is not empty, and `replace` is false.
        RunInProgress: a run is in progress.
        RetrainerError: the backup cannot be read, was changed, or was made by a newer release.
    """
    with (
        tempfile.TemporaryDirectory(prefix="retrainer-") as folder,
        closing(Database(create_engine(project.settings.database.url, project.folder))) as database,
    ):
        _copy_verified(file, Path(folder) / _DATABASE)
        info = _read_info(Path(folder), file)
        with closing(Database.open(_URL, Path(folder))) as backup:
            _require_plain_names(backup, file)
            _restore(project, backup, database, info, replace=replace)
    # The database is restored: a failure from here on is no reason to report that it is not.
    try:
        project.artifacts.set_links()
    except (RetrainerError, OSError) as error:
        log.warning("The links to the production versions were not set: %s. Then run: retrainer doctor --repair", error)
    try:
        _write_settings(project, info["settings"])
    except (RetrainerError, OSError) as error:
        log.warning("The settings of the backup were not written: %s", error)
    return _describe(file, info)


def _write(project: Project, path: Path, now: datetime) -> dict[str, Any]:
    """Write the database of a backup; return what it says about itself."""

    def read_file(version: ModelVersion, name: str) -> bytes | None:
        try:
            return project.artifacts.read_forecasts(version, name)
        except ArtifactError as error:
            log.warning("A file is not in the backup: %s", error)
            return None

    with closing(Database.open(_URL, path.parent)) as backup:
        with project.registry.database.snapshot() as source, backup.write() as session:
            target = session.connection()
            counts = snapshot.copy_rows(source, target)
            posts = project.settings.posts
            own_posts = posts.url is None and posts.table == POSTS_TABLE and POSTS_TABLE in counts
            info = {
                "format": FORMAT,
                "created_at": format_time(now),
                "release": __version__,
                "revision": HEAD,
                "versions": counts[ModelVersion.__tablename__],
                "runs": counts[TrainingRun.__tablename__],
                "posts": counts[POSTS_TABLE] if own_posts else None,
                "large_files": snapshot.add_missing_data(session, read_file),
                "settings": _settings_without_passwords(project),
            }
            target.execute(sa.text(f"CREATE TABLE {_INFO.name} (info JSON NOT NULL)"))
            target.execute(_INFO.insert().values(info=info))
        backup.leave_wal()
    path.chmod(0o600)  # it holds the posts
    return info


def _restore(project: Project, backup: Database, database: Database, info: dict[str, Any], *, replace: bool) -> None:
    with backup.snapshot() as source, database.write_upgraded() as session:
        if not snapshot.is_empty(session):
            if not replace:
                raise UsageError(
                    f"the database {database.location} is not empty", hint="Add --replace to replace what it holds"
                )
            snapshot.clear(session)
        large = {(version_id, path) for version_id, path in info["large_files"]}
        copied = snapshot.copy_rows(source, session.connection(), without_data=large)
        if POSTS_TABLE not in copied and info["posts"]:
            log.warning("The posts were not restored: the table '%s' is not retrainer's", POSTS_TABLE)
        created_at = datetime.fromisoformat(info["created_at"])
        snapshot.close_running_runs(session, "the backup was taken during this run", created_at)
        _restore_files(project, Registry(backup))  # before the commit: some are nowhere else


def _restore_files(project: Project, registry: Registry) -> None:
    """Write the files that are missing in the models folder."""
    artifacts = Artifacts(project.models_dir, registry)
    artifacts.require_free_links()
    for version in registry.list_versions():
        if version.pruned_at is not None:
            continue
        for path, problem in artifacts.find_file_problems(version).items():
            if problem == "missing":
                if not artifacts.restore_file(version, path):
                    log.warning("'%s' of '%s' is not in the backup, and was not restored", path, version.version_id)
            else:
                log.warning("'%s' of '%s' is not as in the backup, and was left as it is", path, version.version_id)


def _write_settings(project: Project, settings: str) -> None:
    """Write the settings of a backup beside those of the project, if they differ."""
    if settings == _settings_without_passwords(project):
        return
    content = settings.encode()
    for path in _settings_names(project.config_file.with_name(SETTINGS)):
        with _report_write_errors(path):
            if _create(path, content) or _holds(path, content):
                log.info("The backup was made with other settings: see '%s'", path)
                return


def _settings_names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(2))


def _create(path: Path, content: bytes) -> bool:
    """Write a new file that only this user can read; return whether its name was free."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        sync(path)
    except OSError:
        path.unlink()
        raise
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has exactly this content."""
    try:
        with open_regular(path) as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


def _settings_without_passwords(project: Project) -> str:
    """Return the text of the settings with `***` in place of the passwords in URLs, also in comments."""
    text = project.config_file.read_text(encoding="utf-8")
    parts, end = [], 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken) and "://" in token.value:
            start, between = token.start_mark.index, text[end : token.start_mark.index]
            parts += [_mask_lines(between), _mask_scalar(text[start : token.end_mark.index], token.value)]
            end = token.end_mark.index
    return "".join([*parts, _mask_lines(text[end:])])


def _mask_scalar(raw: str, value: str) -> str:
    """Mask the passwords of a scalar as it is written, with its quotes."""
    if "\n" in raw or "\\" in raw:  # a password may be written in parts
        masked = _mask_lines(value)
        return raw if masked == value else json.dumps(masked) + raw[len(raw.rstrip()) :]
    quote = raw[0] if raw[0] in "\"'" else ""
    return f"{quote}{_mask_lines(raw[len(quote) : len(raw) - len(quote)])}{quote}"


def _mask_lines(text: str) -> str:
    return "\n".join(map(_mask_url, text.split("\n")))


def _mask_url(line: str) -> str:
    """Mask the passwords of URLs, from wherever they are in a line; rather too much than too little."""
    before, mark, rest = line.partition("://")
    if not mark:
        return line
    # A password of a database may hold any character. In a web address, an @ after the host is part of the path.
    is_web = _WEB.search(before[-5:] + mark) is not None
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if is_web else rest
    user_info, at, host = authority.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if at and "/" not in user and (colon or is_web):
        rest = f"{user + colon if colon else ''}***@{host}{rest[len(authority) :]}"
    return before + mark + _SECRET.sub(r"\1***", _mask_url(rest))


def _describe(file: Path, info: dict[str, Any]) -> Backup:
    created_at = datetime.fromisoformat(info["created_at"])
    return Backup(file, created_at, info["release"], info["versions"], info["runs"], info["posts"])


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        raise UsageError(f"'{file}' exists", hint="Choose another name")


def _seal(path: Path) -> None:
    """Append the SHA-256 of a file to it, and make it durable. SQLite ignores what follows its last page."""
    with path.open("rb+") as file:
        file.write(_seal_of(file))
    sync(path)


def _seal_of(file: BufferedRandom) -> bytes:
    """Return the last line of a backup for the content of a file."""
    return _LABEL + hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n"


def _copy_verified(file: Path, target: Path) -> None:
    """Copy a backup and verify the copy, which nobody else can change.

    Raises:
        RetrainerError: it cannot be read, is not a backup, is incomplete, or was changed.
    """
    try:
        source = open_regular(file)
    except OSError as error:
        raise RetrainerError(f"cannot read '{file}': {error.strerror}", hint="Check the path") from error
    with source, _report_write_errors(target), target.open("wb+") as copy:
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


def _read_info(folder: Path, file: Path) -> dict[str, Any]:
    """Read what a verified backup says about itself.

    Raises:
        RetrainerError: it was made by a newer release, or is not a backup.
    """
    try:
        with closing(Database(create_engine(_URL, folder))) as backup, backup.snapshot() as connection:
            info = _require_valid(connection.execute(sa.select(_INFO)).scalar_one())
            views = sa.inspect(connection).get_view_names()
            revision = connection.execute(
                sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))
            ).scalar()
    except (DatabaseError, sa.exc.SQLAlchemyError, ValueError, TypeError, KeyError) as error:
        raise _not_a_backup(file) from error
    if info["format"] > FORMAT or info["revision"] not in REVISIONS:
        raise RetrainerError(f"'{file}' was made by the newer release {info['release']}", hint="Upgrade retrainer")
    if views or revision != info["revision"]:
        raise _not_a_backup(file)
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


def _require_plain_names(backup: Database, file: Path) -> None:
    """Check that the names from which paths are made cannot lead out of the models folder.

    Raises:
        RetrainerError: one can, or a table is missing.
    """
    versions = sa.select(ModelVersion.version_id, ModelVersion.model_type)
    files = sa.select(VersionFile.version_id, VersionFile.path).order_by(VersionFile.version_id)
    try:
        with backup.snapshot() as connection:
            if not {table.name for table in Base.metadata.sorted_tables} <= {*sa.inspect(connection).get_table_names()}:
                raise _not_a_backup(file)
            for version_id, model_type in connection.execute(versions):
                if model_type not in MODEL_TYPE_NAMES or "/" in version_id:
                    raise _not_a_backup(file)
                require_plain_paths([version_id], version_id)
            for version_id, rows in itertools.groupby(connection.execute(files), key=lambda row: str(row.version_id)):
                require_plain_paths((row.path for row in rows), version_id)
    except (ArtifactError, DatabaseError, sa.exc.SQLAlchemyError, TypeError, AttributeError) as error:
        raise _not_a_backup(file) from error


def _not_a_backup(file: Path) -> RetrainerError:
    return RetrainerError(f"'{file}' is not a backup of retrainer", hint="Use another backup")


@contextmanager
def _report_write_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RetrainerError(
            f"cannot write '{file}': {error.strerror}", hint="Choose a writable path with enough space"
        ) from error
