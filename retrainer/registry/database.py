"""The database, SQLite or PostgreSQL: opened, upgraded to the newest schema, and used in short transactions.

Both behave alike: a write transaction excludes every other writer from its first statement on (SQLite by
BEGIN IMMEDIATE, PostgreSQL by an advisory lock), so what it reads stays true until it commits.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from retrainer.errors import ConfigError, DatabaseError
from retrainer.files import exclusive_lock
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.manifest import find_version_folders
from retrainer.registry.migrations import HEAD, REVISIONS
from retrainer.registry.sqlite import (
    BUSY_TIMEOUT_SECONDS,
    CommitCounter,
    create_sqlite_engine,
    forbid_writing,
    lock_file,
    split_url,
)
from retrainer.registry.tables import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

# So that a server that accepts connections and never answers, or is cut off, fails soon. The URL may override them.
_POSTGRESQL_DEFAULTS: dict[str, int | str | None] = {
    "connect_timeout": 5,  # s
    "keepalives_idle": 30,  # s
    "tcp_user_timeout": 30_000,  # ms
    "client_encoding": "utf8",  # whatever encoding the database has
    "prepare_threshold": None,  # a pooler such as PgBouncer gives the next transaction another connection
}
# Part of a driver's message, what it means, and what to do; without a meaning, the driver's own message is shown.
_KNOWN_ERRORS = (
    ("file is not a database", "is not a SQLite database", "Check database.url"),
    ("unable to open database file", "cannot be opened", "Check the path and its permissions"),
    ("readonly database", "cannot be written", "Make its file and its folder writable"),
    ("read-only transaction", "cannot be written: it is read-only", "Use a database and a user that may write"),
    ("database is locked", f"was locked for {BUSY_TIMEOUT_SECONDS} s", "Try again later"),
    ("database or disk is full", "cannot be written: the disk is full", "Free some disk space"),
    ("disk I/O error", "cannot be read or written: disk I/O error", "Check whether the disk is full or failing"),
    ("permission denied", "", "Grant its user the missing permission"),
    ("terminating connection", "closed the connection", "Run the command again"),
    ("server closed the connection", "closed the connection", "Check that the server is running"),
    ("connection refused", "", "Check that the server is running, and check database.url"),
    ("connection failed", "", "Check that the server is running, and check database.url"),
    ("connection is bad", "", "Check that the server is running, and check database.url"),
    ("connection timeout", "", "Check that the server is running and can be reached"),
    ("has no equivalent in encoding", "", "Create the database with the encoding UTF8"),
    (
        "timestamp too",
        "",
        "Fix times before year 1 or after year 9999 and 'infinity', or read from a view without them",
    ),
)
_POSTGRESQL_DRIVER = "postgresql+psycopg"
_PING_AFTER_SECONDS = 1.0
_ADVISORY_LOCK = 7_265_747_261  # "retra": any number, the same in every process


class Database:
    """An open database with the newest schema."""

    def __init__(self, engine: sa.Engine, project_folder: Path) -> None:
        self.engine = engine
        self.project_folder = project_folder
        self._writing_engine = engine.execution_options(retrainer_writes=True)
        self.reading_engine = _autocommitting(engine)
        self._watch = CommitCounter(engine)
        self._is_closed = False
        event.listen(engine, "checkin", self._close_if_late)

    @classmethod
    def open(cls, url: str, folder: Path, models: Path | None = None) -> Database:
        """Open the database; create it on first use, and upgrade an older schema.

        Args:
            url: an SQLAlchemy URL; a relative SQLite path is relative to `folder`.
            folder: the project folder.
            models: the models folder. If it holds versions, a missing or empty database is an error: another one must
                have existed.

        Raises:
            ConfigError: the URL is invalid, or its driver is not installed.
            DatabaseError: the file is not a database, it is missing or unreachable, or has a newer schema.
        """
        database = cls(create_engine(url, folder), folder)
        try:
            database._upgrade_if_needed(models)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def open_read_only(cls, url: str, folder: Path, models: Path) -> Database:
        """Open a database for reading, as it is: nothing is created, upgraded, or left beside it.

        Args:
            url: an SQLAlchemy URL; a relative SQLite path is relative to `folder`.
            folder: the project folder.
            models: the models folder. If it holds versions, a missing database is an error.

        Raises:
            ConfigError: the URL is invalid, or its driver is not installed.
            DatabaseError: the file is missing.
        """
        database = cls(create_engine(url, folder, read_only=True), folder)
        if database._is_missing and _holds_versions(models):
            raise database._lost(models, "is missing")
        path = database._file
        if path is None or not path.exists() or path.with_name(f"{path.name}-wal").exists():
            return database
        # A connection that cannot write leaves the empty files of a write-ahead log behind; one that may write, but is
        # forbidden to, removes them. Where there is a log already, the former leaves everything as it is.
        database.close()
        engine = create_engine(url, folder)
        event.listen(engine, "connect", forbid_writing)
        return cls(engine, folder)

    @property
    def location(self) -> str:
        """Where the database is, for messages; without a password."""
        return location(self.engine)

    @property
    def _file(self) -> Path | None:
        """The file of a SQLite database; None for PostgreSQL."""
        return Path(self.location[1:-1]) if self.engine.dialect.name == "sqlite" else None

    @property
    def _is_missing(self) -> bool:
        """Whether it is a SQLite database without a file."""
        return self._file is not None and not self._file.exists()

    def has_table(self, name: str) -> bool:
        """Whether a table exists. Asking does not create the database."""
        if self._is_missing:
            return False
        with self._translate_errors():
            return sa.inspect(self.engine).has_table(name)

    def close(self) -> None:
        """Close the connections; those that other threads still use when they are given back."""
        self._is_closed = True
        self._watch.close()
        self.engine.dispose()

    def _close_if_late(self, _connection: Any, record: Any) -> None:
        """Close a connection that is given back after the others were closed: the pool would keep it open."""
        if self._is_closed:
            record.close()

    def leave_wal(self) -> None:
        """Keep a SQLite database that no other process has open in one file, without a write-ahead log."""
        self.close()
        self._set_journal_mode("DELETE")

    def last_commit(self) -> object:
        """Return a value that every commit changes, by whatever process; None if the database has no such value.

        Only SQLite has one.
        """
        path = self._file
        return self._watch.read(path) if path is not None else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read; where several statements have to see the same state, use `snapshot`.

        PostgreSQL makes each statement a transaction of its own: the beginning and the end of one would each be a round
        trip to the server, and change nothing about what a statement sees.
        """
        with self._translate_errors(), Session(self.reading_engine) as session:  # it connects when it is first used
            yield session
            session.expunge_all()

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Run a read-only transaction that sees the database as it is now, whatever others write meanwhile."""
        engine = self.engine
        if engine.dialect.name == "postgresql":  # a transaction of SQLite reads one state anyway
            engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with self._translate_errors(), engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """Run an exclusive write transaction: committed at the end, rolled back on any error.

        Args:
            durable: whether the commit waits until PostgreSQL has written it to disk. One that does not wait is on disk
                when a later one is that does, and is lost only if the server crashes before.
        """
        with self._write_connection(durable) as connection, Session(connection, expire_on_commit=False) as session:
            yield session
            session.flush()
            session.expunge_all()

    def revision(self) -> str | None:
        """Return the schema's revision; None before first use.

        Raises:
            DatabaseError: the schema is newer than this program, it is not a database, or it is unreachable.
        """
        with self._translate_errors(), self.engine.connect() as connection:
            return self._read_revision(connection)

    def upgrade(self) -> None:
        """Upgrade the schema to the newest revision in one transaction."""
        with self.write_upgraded():
            pass

    @contextmanager
    def write_upgraded(self) -> Iterator[Session]:
        """Run an exclusive write transaction that begins by upgrading the schema to the newest revision."""
        with self._first_use_lock(), self._write_connection() as connection:
            if self._read_revision(connection) != HEAD:
                _run_migrations(connection)
            with Session(connection, expire_on_commit=False) as session:
                yield session
                session.flush()

    def _upgrade_if_needed(self, models: Path | None) -> None:
        if self._is_missing and models is not None and _holds_versions(models):
            raise self._lost(models, "is missing")
        revision = self.revision()
        if revision == HEAD:
            return
        # Read again after the look at the models: another process may have created both meanwhile.
        if revision is None and models is not None and _holds_versions(models) and self.revision() is None:
            raise self._lost(models, "has no retrainer tables")
        self.upgrade()

    def _lost(self, models: Path, problem: str) -> DatabaseError:
        return DatabaseError(
            f"the database {self.location} {problem}, but '{models}' holds versions from it",
            hint="Restore it, or fix database.url; to start from scratch, move the models folder away",
        )

    def _read_revision(self, connection: sa.Connection) -> str | None:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        query = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
        revision: str | None = connection.execute(query).scalar()
        if revision is not None and revision not in REVISIONS:
            raise DatabaseError(
                f"the database {self.location} has schema '{revision}', newer than this release ('{HEAD}')",
                hint="Upgrade retrainer",
            )
        return revision

    @contextmanager
    def _write_connection(self, durable: bool = True) -> Iterator[sa.Connection]:
        with self._translate_errors(), self._writing_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                lock = f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"
                if not durable:  # for this transaction; in the same statement, since each one is a round trip
                    lock += ", set_config('synchronous_commit', 'off', true)"
                connection.exec_driver_sql(lock)
            yield connection

    @contextmanager
    def _first_use_lock(self) -> Iterator[None]:
        """Let one process at a time create a SQLite file: SQLite does not wait for others when it switches to WAL."""
        path = self._file
        if path is None:
            yield
            return
        with self._translate_errors(), exclusive_lock(lock_file(path)):
            self._set_journal_mode("WAL")
            yield

    def _set_journal_mode(self, mode: str) -> None:
        with self._translate_errors(), self.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql(f"PRAGMA journal_mode={mode}")
            connection.exec_driver_sql("BEGIN")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise translate_error(error, self.engine) from error
        except sa.exc.TimeoutError as error:
            raise DatabaseError(
                f"no connection to the database {self.location} became free in time", hint="Try again later"
            ) from error
        except OSError as error:
            raise DatabaseError(f"cannot use the database {self.location}: {error.strerror}") from error


def create_engine(url: str, folder: Path, *, read_only: bool = False, setting: str = "database.url") -> sa.Engine:
    """Create an engine. This opens no connection, but creates the folder of a SQLite file.

    Args:
        url: an SQLAlchemy URL.
        folder: the folder that a relative SQLite path starts from.
        read_only: whether nothing may be written.
        setting: the key of the URL, for messages.

    Raises:
        ConfigError: the URL is invalid, or its driver is not installed.
        DatabaseError: the folder of a SQLite file cannot be created.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise ConfigError(
            f"{setting} is not a database URL",  # the value may hold a password
            hint="Write it like sqlite:///data/retrainer.db or postgresql+psycopg://user@host/name",
        ) from None
    if "@" in (parsed.host or ""):
        raise ConfigError(f"{setting} has more than one @", hint="Write %40 for @ in a user name or password")
    if parsed.get_backend_name() == "sqlite":
        engine = create_sqlite_engine(split_url(parsed, url), folder, read_only=read_only)
        engine.update_execution_options(retrainer_setting=setting)
        return engine
    if parsed.drivername == "postgres":  # as hosting services give it
        parsed = parsed.set(drivername="postgresql")
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError(
            f"unsupported database '{parsed.get_backend_name()}'",
            hint="Use SQLite or PostgreSQL: sqlite:///data/retrainer.db or postgresql://user@host/name",
        )
    if parsed.drivername not in {"postgresql", _POSTGRESQL_DRIVER}:
        raise ConfigError(
            f"unsupported database driver '{parsed.drivername}'",
            hint=f"Begin the URL with postgresql:// or {_POSTGRESQL_DRIVER}://, which is the same",
        )
    parsed = parsed.set(drivername=_POSTGRESQL_DRIVER)
    defaults = {name: value for name, value in _POSTGRESQL_DEFAULTS.items() if name not in parsed.query}
    if (threshold := parsed.query.get("prepare_threshold")) is not None:  # the driver takes nothing but a number
        if not (isinstance(threshold, str) and threshold.isdecimal()):
            raise ConfigError(f"{setting}: prepare_threshold is not a number", hint="Write ?prepare_threshold=5")
        defaults["prepare_threshold"] = int(threshold)
        parsed = parsed.difference_update_query(["prepare_threshold"])
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings of a lost connection repeat the error
    try:
        engine = sa.create_engine(parsed, connect_args=defaults)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigError(
            f"the database driver '{parsed.drivername}' is not installed",
            hint="Install it with: pip install 'retrainer[postgresql]'",
        ) from None
    engine.update_execution_options(retrainer_setting=setting)
    event.listen(engine, "connect", _prepare_postgresql)
    _replace_lost_connections(engine)
    return engine.execution_options(postgresql_readonly=True) if read_only else engine


def sqlite_files(url: str, folder: Path) -> list[Path]:
    """Return the files of a SQLite database, whether they exist or not; none for another database or an invalid URL."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        return []
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return []
    path = folder / str(split_url(parsed, url).database)
    return [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", "-journal")), lock_file(path)]


def location(engine: sa.Engine) -> str:
    """Return where an engine's database is, quoted, for messages; without a password."""
    if engine.dialect.name == "sqlite":
        return f"'{engine.url.database}'"
    # The query may hold a password too.
    shown = {name: value for name, value in engine.url.query.items() if name in {"host", "port"}}
    return f"'{engine.url.set(query=shown).render_as_string(hide_password=True)}'"


def translate_error(error: DBAPIError, engine: sa.Engine) -> DatabaseError:
    """Return a one-line error with a hint for a driver's error."""
    message = str(error.orig)
    first_line = next((line.strip() for line in message.splitlines() if line.strip()), type(error.orig).__name__)
    setting = str(engine.get_execution_options().get("retrainer_setting", "database.url"))
    for part, meaning, known_hint in _KNOWN_ERRORS:
        if part in message:
            hint = known_hint.replace("database.url", setting)
            return DatabaseError(f"the database {location(engine)} {meaning or f'failed: {first_line}'}", hint=hint)
    return DatabaseError(f"the database {location(engine)} failed: {message.strip() or first_line}")


def _holds_versions(models: Path) -> bool:
    return any(find_version_folders(models, name) for name in MODEL_TYPE_NAMES)


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    style = connection.info.parameter_status("DateStyle")
    if style is None or not style.startswith("ISO"):  # the driver cannot read others
        with connection.cursor() as cursor:
            cursor.execute("SET DateStyle TO ISO")
        connection.commit()


def _autocommitting(engine: sa.Engine) -> sa.Engine:
    """Return the engine for reading, whose statements are each a transaction of their own, where that makes sense."""
    if engine.dialect.name != "postgresql" or engine.get_execution_options().get("postgresql_readonly"):
        return engine  # a transaction of SQLite reads one state, and only in a transaction nothing can be written
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _replace_lost_connections(engine: sa.Engine) -> None:
    """Ask the server whether it still knows a connection that has not been used for a second, before it is used.

    Asking each time, as `pool_pre_ping` does, would double the round trips of short queries.
    """

    def note_use(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    def check(connection: Any, record: Any, _proxy: Any) -> None:
        used_at = record.info.get("used_at")  # None for a new one
        if used_at is None or time.monotonic() - used_at <= _PING_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            if not engine.dialect.is_disconnect(error, connection, None):
                raise
            raise sa.exc.InvalidatePoolError from error  # the pool replaces it, and all others, by new connections

    event.listen(engine, "checkin", note_use)
    event.listen(engine, "checkout", check)


def _run_migrations(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415  slow to import, and rarely needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")
