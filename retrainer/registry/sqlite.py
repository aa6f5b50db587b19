"""SQLite: its files, whatever their names, its connections, and reading where nothing can be written."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

import sqlalchemy as sa
from sqlalchemy import event

from retrainer.errors import ConfigError, DamagedValue, DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

BUSY_TIMEOUT_SECONDS = 30

_SQLITE_OPTIONS = re.compile(r"\?\w+=[^&?/]*(&\w+=[^&?/]*)*$")  # at the end of a URL
_CANNOT_WRITE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL")  # also while only reading
_READ_AS_IT_IS = "read as it is"  # marks a connection that ignores the write-ahead log


def split_url(url: sa.URL, text: str) -> sa.URL:
    """Return a URL whose path ends at its options; SQLAlchemy ends it at the first ?, which a path may hold."""
    path = text.partition("///")[2]
    options = _SQLITE_OPTIONS.search(path)
    end = len(path) if options is None else options.start()
    return url.set(database=unquote(path[:end]), query=dict(parse_qsl(path[end + 1 :])))


def create_sqlite_engine(url: sa.URL, folder: Path, *, read_only: bool) -> sa.Engine:
    """Create an engine for a file; see `database.create_engine`."""
    if not url.database or url.database == ":memory:":
        raise ConfigError("a SQLite database needs a file", hint="Write it like sqlite:///data/retrainer.db")
    path = folder / url.database
    if not read_only:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"cannot create the folder '{path.parent}': {error.strerror}") from error
    engine = sa.create_engine(
        url.set(database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_SECONDS}, json_deserializer=_read_json
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    if not read_only:
        _follow_file(engine, path)
    _connect_to_file(engine, path, read_only=read_only)
    return engine


def lock_file(path: Path) -> Path:
    """Return the file that is locked while a database is created."""
    return path.with_name(f".{path.name}.lock")


def forbid_writing(connection: Any, _record: Any) -> None:
    """Let a connection only read; for the event `connect`."""
    connection.execute("PRAGMA query_only=ON")


def _read_json(text: str) -> Any:
    """Read a JSON value; SQLite lets other programs write any text into its column."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DamagedValue.instead_of(text, "JSON") from error


class CommitCounter:
    """Observes the commits to a SQLite file, by a connection that commits nothing itself."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._connection: sa.PoolProxiedConnection | None = None
        self._opened = 0  # the counter of each connection is its own
        self._file: tuple[int, int] | None = None

    def read(self, path: Path) -> object:
        """Return a value that changes with every commit, and if another file takes the place; None if it fails."""
        with self._lock:
            try:
                file = _identity(path)
                if self._connection is None or file != self._file:
                    self._close()
                    self._connection = self._engine.raw_connection()
                    self._file, self._opened = file, self._opened + 1
                if _READ_AS_IT_IS in self._connection.info:  # it would see no commit
                    self._close()
                    return None
                cursor = self._connection.cursor()
                cursor.execute("PRAGMA data_version")
                return self._opened, cursor.fetchone()
            except (OSError, sqlite3.Error, sa.exc.SQLAlchemyError):
                self._close()
                return None

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()


def _follow_file(engine: sa.Engine, path: Path) -> None:
    """Let a long-lived process notice that the database file was removed or replaced.

    An open connection would go on with the file it has open, whatever its name; a new one would create an empty file.
    """
    seen = False

    def check(_connection: Any, record: Any, _proxy: Any) -> None:
        nonlocal seen
        present = _identity(path)
        seen = seen or present is not None
        if record.info.setdefault("file", present) != present:
            if record.info["file"] is not None:
                raise sa.exc.DisconnectionError  # the pool replaces it by a new connection
            record.info["file"] = present  # this connection created the file

    def refuse_to_create_another(*_arguments: Any) -> None:
        if seen and not path.exists():
            raise sqlite3.OperationalError("unable to open database file")

    event.listen(engine, "checkout", check)
    event.listen(engine, "do_connect", refuse_to_create_another)


def _connect_to_file(engine: sa.Engine, path: Path, *, read_only: bool) -> None:
    """Let a database be read where nothing can be written: a read-only folder, or a full disk.

    Even for reading, SQLite creates the files of the write-ahead log. Where it cannot, and there is nothing in the log,
    the file is read as it is. A new connection follows whenever the file has changed.
    """
    uri = f"file:{quote(os.fsencode(path))}"  # SQLite's own, in which a path may not hold # ? %

    def content() -> tuple[int, int] | None:
        """Return what tells whether the file was changed; None if a log belongs to it."""
        log_file = path.with_name(f"{path.name}-wal")
        if not path.exists() or (log_file.exists() and log_file.stat().st_size):
            return None
        status = path.stat()
        return status.st_mtime_ns, status.st_size

    def connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
        if read_only:
            arguments, parameters = [f"{uri}?mode=ro"], {**parameters, "uri": True}
        connection = dialect.connect(*arguments, **parameters)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            state = content()
            if not error.sqlite_errorname.startswith(_CANNOT_WRITE) or state is None:
                raise
            record.info[_READ_AS_IT_IS] = state
            return dialect.connect(f"{uri}?immutable=1", **{**parameters, "uri": True})
        return connection

    def check(_connection: Any, record: Any, _proxy: Any) -> None:
        if _READ_AS_IT_IS in record.info and record.info[_READ_AS_IT_IS] != content():
            raise sa.exc.DisconnectionError

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkout", check)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")  # a commit survives a power cut


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("retrainer_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
