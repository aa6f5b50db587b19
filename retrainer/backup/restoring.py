"""Restore a backup."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from retrainer.backup.file_format import (
    DATABASE,
    URL,
    Backup,
    copy_verified,
    describe,
    not_a_backup,
    read_info,
    require_plain_names,
)
from retrainer.backup.masking import settings_without_passwords
from retrainer.errors import ArtifactError, DatabaseError, RetrainerError, UsageError
from retrainer.files import open_regular, report_write_errors, sync
from retrainer.registry import snapshot
from retrainer.registry.artifacts import Artifacts, too_large_for_database
from retrainer.registry.database import Database, create_engine
from retrainer.registry.migrations import REVISIONS
from retrainer.registry.place import version_path
from retrainer.registry.production_links import ProductionLinks
from retrainer.registry.registry import Registry
from retrainer.registry.tables import POSTS_TABLE, DatabaseIdentity, VersionFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from retrainer.project import Project

log = logging.getLogger(__name__)

FIRST_WITH_IDENTITY = "0007"  # the first schema in which a database has an id
SETTINGS = "config.from-backup.yaml"  # where the settings of a backup are written, if they differ from the project's


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
        closing(Database(create_engine(project.settings.database.url, project.folder), project.folder)) as database,
    ):
        copy_verified(file, Path(folder) / DATABASE)
        info = read_info(Path(folder), file)
        with closing(Database.open(URL, Path(folder))) as backup:
            require_plain_names(backup, file)
            _restore(project, backup, database, info, file, replace=replace)
    # The database is restored: a failure from here on is no reason to report that it is not.
    try:
        for stream in project.registry.list_streams():
            project.for_stream(stream).production_links.set()
    except (RetrainerError, OSError) as error:
        log.warning("The links to the production versions were not set: %s. Then run: retrainer doctor --repair", error)
    try:
        _write_settings(project, info["settings"])
    except (RetrainerError, OSError) as error:
        log.warning("The settings of the backup were not written: %s", error)
    return describe(file, info)


def _restore(
    project: Project, backup: Database, database: Database, info: dict[str, Any], file: Path, *, replace: bool
) -> None:
    with database.write_upgraded() as session:
        _choose_identity(project, backup, session, info)
        if not snapshot.is_empty(session):
            if not replace:
                raise UsageError(
                    f"the database {database.location} is not empty", hint="Add --replace to replace what it holds"
                )
            snapshot.clear(session)
        with backup.snapshot() as source:
            copied = _copy_rows(project, source, session.connection(), info, file)
        if POSTS_TABLE not in copied and info["posts"]:
            log.warning("The posts were not restored: the table '%s' is not retrainer's", POSTS_TABLE)
        created_at = datetime.fromisoformat(info["created_at"])
        snapshot.close_running_runs(session, "the backup was taken during this run", created_at)
        _restore_files(project, Registry(backup))  # before the commit: some are nowhere else


def _files_without_data(project: Project, source: sa.Connection, info: dict[str, Any]) -> set[snapshot.FileKey]:
    """Return the files whose content the database is not to hold: those of a store, or of a fit of over 32 MB."""
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for version_id, path, size in source.execute(sa.select(VersionFile.version_id, VersionFile.path, VersionFile.size)):
        sizes[version_id][path] = size
    if project.settings.uses_store:
        return {(version_id, path) for version_id, files in sizes.items() for path in files}
    listed = {(version_id, path) for version_id, path in info["large_files"]}  # that were not in the database then
    return {(one, path) for one, files in sizes.items() for path in too_large_for_database(files)} & listed


def _copy_rows(
    project: Project, source: sa.Connection, target: sa.Connection, info: dict[str, Any], file: Path
) -> dict[str, int]:
    """Copy the rows of a backup.

    Raises:
        RetrainerError: a value cannot be read, or breaks a rule of the tables.
    """
    try:
        return snapshot.copy_rows(source, target, _files_without_data(project, source, info))
    except sa.exc.OperationalError:  # of the database, such as a full disk or a lost connection
        raise
    except (  # of a value that cannot be read
        DatabaseError,
        sa.exc.SQLAlchemyError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise not_a_backup(file) from error


def _choose_identity(project: Project, backup: Database, session: Session, info: dict[str, Any]) -> None:
    """Let the restored database have the id of the backup, or keep its own if the models folder belongs to it.

    Raises:
        ConfigError: the models folder belongs to neither.
    """
    registry = Registry(backup)
    artifacts = Artifacts(project.open_place(registry), registry)
    own_id = session.scalars(sa.select(DatabaseIdentity.database_id)).one()
    has_identity = REVISIONS.index(info["revision"]) >= REVISIONS.index(FIRST_WITH_IDENTITY)
    if not has_identity or artifacts.place.find_owner() == own_id:
        with backup.write() as copy:
            copy.execute(sa.update(DatabaseIdentity).values(database_id=own_id))
    artifacts.require_own_folder()


def _restore_files(project: Project, registry: Registry) -> None:
    """Write the files that are missing in the models folder."""
    artifacts = Artifacts(project.open_place(registry), registry)
    ProductionLinks(artifacts, registry).require_free()
    for version in registry.across(None).list_versions():
        if version.pruned_at is not None:
            continue
        for path, problem in artifacts.find_file_problems(version).items():
            if problem == "missing":
                if not artifacts.restore_file(version, path):
                    log.warning("'%s' of '%s' is not in the backup, and was not restored", path, version.version_id)
            elif problem == "unreadable" and artifacts.place.keeps_only_copy:
                location = artifacts.place.locate(version_path(version, path))
                raise ArtifactError(f"cannot read '{location}'", hint="Nothing was restored. Try again")
            else:
                log.warning("'%s' of '%s' differs from the backup, and was left unchanged", path, version.version_id)


def _write_settings(project: Project, settings: str) -> None:
    """Write the settings of a backup beside those of the project, if they differ."""
    if settings == settings_without_passwords(project.config_file):
        return
    content = settings.encode()
    for path in _settings_names(project.config_file.with_name(SETTINGS)):
        with report_write_errors(path):
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
