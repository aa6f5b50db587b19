"""One database: SQLite or PostgreSQL, opened, brought to the newest schema, and used in short transactions.

Both behave alike: a write transaction excludes every other writer from its first statement on (SQLite by
BEGIN IMMEDIATE, PostgreSQL by an advisory lock), so what it reads stays true until it commits.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from retrainer.errors import ConfigError, DatabaseError
from retrainer.files import exclusive_lock
from retrainer.registry.migrations import HEAD, REVISIONS
from retrainer.registry.tables import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_TIMEOUT_SECONDS = 30
# A server that takes connections and never answers, or is cut off, is given up; the URL may say otherwise.
_POSTGRESQL_DEFAULTS = {
    "connect_timeout": 5,  # s
    "keepalives_idle": 30,  # s
    "tcp_user_timeout": 30_000,  # ms
    "client_encoding": "utf8",  # whatever the database keeps
}
# What drivers say, in part; what it means; what to do.
_MEANINGS = (
    ("file is not a database", "is not a SQLite database", "Check database.url"),
    ("unable to open database file", "cannot be opened", "Check the path and its rights"),
    ("readonly database", "cannot be written", "Its file and its folder must be writable, also to read"),
    ("database is locked", f"stayed locked for {BUSY_TIMEOUT_SECONDS} s", "Try again later"),
    ("database or disk is full", "has no room left on its disk", "Free some space there"),
    ("disk I/O error", "could not read or write its disk", "See whether the disk is full, or fails"),
)
_HINTS = {
    "permission denied": "Grant its user what is missing",
    "connection refused": "See whether the server runs, and check database.url",
    "connection failed": "See whether the server runs, and check database.url",
    "connection is bad": "See whether the server runs, and check database.url",
    "connection timeout": "See whether the server runs and can be reached",
    "has no equivalent in encoding": "The database must be made with the encoding UTF8",
    "timestamp too": "A time before year 1 or after year 9999, or 'infinity', cannot be used: mend it, or use a view",
}
_ADVISORY_LOCK = 7_265_747_261  # "retra": any number, the same in every process


class Database:
    """An open database of the newest schema."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writing_engine = engine.execution_options(retrainer_writes=True)

    @classmethod
    def open(cls, url: str, folder: Path, models: Path | None = None) -> Database:
        """Open the database, make it on first use, and bring an older schema to the newest.

        Args:
            url: an SQLAlchemy URL; a relative SQLite path starts at `folder`.
            folder: the project folder.
            models: the folder of model files. Where it holds versions, there was a database: none is made, and no
                table in an empty one.

        Raises:
            ConfigError: the URL is not one, or its driver is not installed.
            DatabaseError: the file is no database, is gone, cannot be reached, or is of a newer schema.
        """
        database = cls(create_engine(url, folder))
        try:
            database._upgrade_if_needed(models)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def open_read_only(cls, url: str, folder: Path, models: Path) -> Database:
        """Open a database to read from, as it is: nothing is made, brought to a newer schema, or left beside it.

        Args:
            url: an SQLAlchemy URL; a relative SQLite path starts at `folder`.
            folder: the project folder.
            models: the folder of model files. Where it holds versions, there was a database.

        Raises:
            ConfigError: the URL is not one, or its driver is not installed.
            DatabaseError: the file is gone.
        """
        database = cls(create_engine(url, folder, read_only=True))
        if database._is_missing and _holds_versions(models):
            raise database._lost(models, "is gone")
        path = database._file
        if path is None or not path.exists() or path.with_name(f"{path.name}-wal").exists():
            return database
        # A connection that cannot write leaves the empty files of a write-ahead log behind; one that may, but is told
        # not to, takes them away again. Where there is a log already, the first leaves everything as it is.
        database.close()
        engine = create_engine(url, folder)
        event.listen(engine, "connect", _forbid_writing)
        return cls(engine)

    @property
    def _file(self) -> Path | None:
        """The file of a SQLite database; None of another."""
        return Path(self.location[1:-1]) if self.engine.dialect.name == "sqlite" else None

    @property
    def _is_missing(self) -> bool:
        """Whether it is a SQLite database that has no file."""
        return self._file is not None and not self._file.exists()

    def has_table(self, name: str) -> bool:
        """Whether there is such a table; a database that nobody has used yet has none, and is not made by asking."""
        if self._is_missing:
            return False
        with self._errors():
            return sa.inspect(self.engine).has_table(name)

    def _upgrade_if_needed(self, models: Path | None) -> None:
        if self._is_missing and models is not None and _holds_versions(models):
            raise self._lost(models, "is gone")
        revision = self.revision()
        if revision == HEAD:
            return
        # Asked again after a look at the models: another process may have made both meanwhile.
        if revision is None and models is not None and _holds_versions(models) and self.revision() is None:
            raise self._lost(models, "has no table of retrainer's")
        self.upgrade()

    def _lost(self, models: Path, what: str) -> DatabaseError:
        return DatabaseError(
            f"the database {self.location} {what}, but '{models}' holds versions that it knew",
            hint="Put it back, or mend database.url; or, to start anew, move the models folder away",
        )

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @property
    def location(self) -> str:
        """Where the database is, for messages; without a password."""
        return location(self.engine)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads."""
        with self._errors(), self.engine.connect() as connection, Session(connection) as session:
            yield session
            session.expunge_all()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that writes, alone; committed at the end, undone as a whole on any error."""
        with self._errors(), self._writing_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            with Session(connection, expire_on_commit=False) as session:
                yield session
                session.flush()
                session.expunge_all()

    def revision(self) -> str | None:
        """Return the schema's revision; None before first use.

        Raises:
            DatabaseError: the database is newer than this program, is not one, or is out of reach.
        """
        with self._errors(), self.engine.connect() as connection:
            return self._known(_revision(connection))

    def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to the newest revision in one transaction; return the revisions before and after."""
        with self._errors(), self._first_use_lock(), self._writing_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            before = self._known(_revision(connection))
            if before != HEAD:
                _run_migrations(connection)
        return before, HEAD

    def _known(self, revision: str | None) -> str | None:
        if revision is not None and revision not in REVISIONS:
            raise DatabaseError(
                f"the database {self.location} has schema '{revision}', newer than this program knows ('{HEAD}')",
                hint="Upgrade retrainer",
            )
        return revision

    @contextmanager
    def _first_use_lock(self) -> Iterator[None]:
        """Let one process at a time make a SQLite file: switching it to WAL does not wait for others by itself."""
        if self.engine.dialect.name != "sqlite":
            yield
            return
        path = Path(self.engine.url.database or "")
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            with self.engine.connect() as connection:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.exec_driver_sql("BEGIN")
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise translate_error(error, self.engine) from error
        except sa.exc.TimeoutError as error:
            raise DatabaseError(
                f"no connection to the database {self.location} came free in time", hint="Try again later"
            ) from error
        except OSError as error:
            raise DatabaseError(f"cannot use the database {self.location}: {error.strerror}") from error


def _holds_versions(models: Path) -> bool:
    return any(models.glob("*/*/manifest.json"))


def create_engine(url: str, folder: Path, *, read_only: bool = False) -> sa.Engine:
    """Make an engine; nothing is opened yet but the folder of a SQLite file.

    Raises:
        ConfigError: the URL is not one, or its driver is not installed.
        DatabaseError: the folder of a SQLite file cannot be made.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise ConfigError(
            "database.url is not a database URL",  # the value may hold a password
            hint="Write it like sqlite:///data/retrainer.db or postgresql+psycopg://user@host/name",
        ) from None
    if "@" in (parsed.host or ""):
        raise ConfigError("database.url holds more than one @", hint="In a user name or password, write it as %40")
    if parsed.get_backend_name() == "sqlite":
        return _connect_sqlite(parsed, folder, read_only=read_only)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError(
            f"a database of kind '{parsed.get_backend_name()}' is not supported",
            hint="Use SQLite or PostgreSQL: sqlite:///data/retrainer.db or postgresql://user@host/name",
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    defaults = {name: value for name, value in _POSTGRESQL_DEFAULTS.items() if name not in parsed.query}
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings of a lost connection repeat the error
    try:
        engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args=defaults)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigError(
            f"the database driver '{parsed.drivername}' is not installed",
            hint="Install it with: pip install 'retrainer[postgresql]'",
        ) from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine.execution_options(postgresql_readonly=True) if read_only else engine


def location(engine: sa.Engine) -> str:
    """Return where an engine's database is, quoted, for messages; without a password."""
    if engine.dialect.name == "sqlite":
        return f"'{str(engine.url.database).removeprefix('file:').removesuffix('?mode=ro')}'"
    # A query may hold a password too.
    shown = {name: value for name, value in engine.url.query.items() if name in {"host", "port"}}
    return f"'{engine.url.set(query=shown).render_as_string(hide_password=True)}'"


def translate_error(error: DBAPIError, engine: sa.Engine) -> DatabaseError:
    """Say in one line what a driver's error means for the user."""
    whole = str(error.orig)
    for part, meaning, hint in _MEANINGS:
        if part in whole:
            return DatabaseError(f"the database {location(engine)} {meaning}", hint=hint)
    first = next((line.strip() for line in whole.splitlines() if line.strip()), type(error.orig).__name__)
    for part, hint in _HINTS.items():
        if part in whole:
            return DatabaseError(f"the database {location(engine)} failed: {first}", hint=hint)
    return DatabaseError(f"the database {location(engine)} failed: {' '.join(whole.split()) or first}")


def _connect_sqlite(url: sa.URL, folder: Path, *, read_only: bool) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("a SQLite database needs a file", hint="Write it like sqlite:///data/retrainer.db")
    path = folder / url.database
    if read_only:
        target = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"cannot make the folder '{path.parent}': {error.strerror}") from error
        target = url.set(database=str(path))
    engine = sa.create_engine(target, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    if not read_only:
        _follow_file(engine, path)
    return engine


def _follow_file(engine: sa.Engine, path: Path) -> None:
    """Let a long-lived process notice that the database file was taken away, or is another one by now.

    An open connection would go on with the file that it knows, whatever its name; a new one would make an empty file.
    """
    seen = False

    def check(_connection: Any, record: Any, _proxy: Any) -> None:
        nonlocal seen
        present = _identity(path)
        seen = seen or present is not None
        if record.info.setdefault("file", present) != present:
            if record.info["file"] is not None:
                raise sa.exc.DisconnectionError  # it is replaced by a new connection
            record.info["file"] = present  # the file was made by this connection

    def refuse_to_make_another(*_arguments: Any) -> None:
        if seen and not path.exists():
            raise sqlite3.OperationalError("unable to open database file")

    event.listen(engine, "checkout", check)
    event.listen(engine, "do_connect", refuse_to_make_another)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET DateStyle TO ISO")  # a server may be set to write times as the driver cannot read them
    connection.commit()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")  # a commit survives the loss of power


def _forbid_writing(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("retrainer_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  a constant


def _run_migrations(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415  slow to import, and rarely needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")
