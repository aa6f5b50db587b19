"""Where studies are kept: Optuna's own storage, which `optuna-dashboard` opens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from retrainer import redaction
from retrainer.errors import ConfigError, DatabaseError
from retrainer.files import exclusive_lock
from retrainer.registry.database import create_engine, location, translate_error
from retrainer.registry.sqlite import BUSY_TIMEOUT_SECONDS, lock_file
from retrainer.tuning.locks import hold_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project

KEY = "tuning.storage_url"


def storage_url(project: Project) -> sa.URL:
    """Return the URL of the storage, with a driver that is installed, and an absolute path.

    Raises:
        ConfigError: the URL is invalid, or it is that of the project's own tables.
    """
    url = _resolve(project.studies_url, project.folder, KEY)
    own = _resolve(project.settings.database.url, project.folder, "database.url")
    if _tables_of(url) == _tables_of(own):
        raise ConfigError(
            f"{KEY} is the database of the project, whose tables clash with those of Optuna",
            hint="Use another database, or another schema: add ?options=-csearch_path%3Dtuning to the URL",
        )
    return url


def storage_file(project: Project) -> Path | None:
    """Return the file that the studies are kept in; None if they are on a server."""
    url = storage_url(project)
    return project.folder / str(url.database) if url.get_backend_name() == "sqlite" else None


def describe_storage(project: Project) -> str:
    """Return where the studies are, quoted, without a password."""
    return location(sa.create_engine(storage_url(project)))


def open_storage(project: Project) -> RDBStorage:
    """Open the storage; create it on first use. The caller closes it with `close_storage`.

    Raises:
        ConfigError: the URL is invalid, or it is that of the project's own tables.
        DatabaseError: it cannot be opened, or another program made the tables.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what it has to say, we log ourselves
    url = storage_url(project)
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url)
        try:
            with storage_errors(url), hold_lock(engine, "tables"):  # as below
                return _open(url, {"pool_pre_ping": True})
        finally:
            engine.dispose()
    path = project.folder / str(url.database)
    if "?" in str(path):
        raise ConfigError(
            f"Optuna cannot open '{path}': the path contains a question mark", hint=f"Set {KEY} to another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(lock_file(path)):  # two processes must not create the tables at once
        return _open(url, {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}, "pool_events": [(_prepare, "connect")]})


def close_storage(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def storage_errors(url: sa.URL) -> Iterator[None]:
    """Turn errors of the storage inside the block into errors of one line.

    Raises:
        DatabaseError: the storage failed.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise translate_error(error, _engine_of(url)) from error
    except StorageInternalError as error:
        if isinstance(error.__cause__, sa.exc.DBAPIError):
            raise translate_error(error.__cause__, _engine_of(url)) from error
        raise DatabaseError(f"cannot use the studies in {location(sa.create_engine(url))}: {error}") from error


def _engine_of(url: sa.URL) -> sa.Engine:
    """Return an engine that messages are about."""
    return sa.create_engine(url, execution_options={"retrainer_setting": KEY})


def _open(url: sa.URL, engine_options: dict[str, object]) -> RDBStorage:
    with storage_errors(url):
        try:
            # Optuna formats the URL as a template.
            template = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
            return RDBStorage(template, engine_kwargs=engine_options)
        except (RuntimeError, AssertionError) as error:
            where = location(sa.create_engine(url))
            raise DatabaseError(
                f"{where} holds tables of another program, or of another release of Optuna: {error}",
                hint=f"Set {KEY} to another database or schema",
            ) from error


def _prepare(connection: Any, _record: Any) -> None:
    """Let a commit wait for no disk: of a study, the last second may be lost with the power."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _resolve(url: str, folder: Path, key: str) -> sa.URL:
    engine = create_engine(url, folder, setting=key)
    engine.dispose()
    redaction.hide(engine.url.password or "")
    return engine.url


def _tables_of(url: sa.URL) -> tuple[object, ...]:
    """Return what distinguishes the tables that a URL leads to."""
    return url.host, url.port or 5432, url.database, url.query.get("options")
