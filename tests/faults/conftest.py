"""The projects that something happens to: made once, and then copied."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.project import create_project
from tests.conftest import administer, configure
from tests.faults.injection import faults_library
from tests.faults.project import create_past
from tests.plugins_for_tests import Plugins
from tests.registry.first_schema import create_first_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def needs_compiler() -> None:
    if faults_library() is None:
        pytest.skip("no Linux with a C compiler: install gcc, which compiles the library that lets writes fail")


@dataclass
class Projects:
    """Projects on one database: one with a past, one with the first schema, and an empty folder.

    Attributes:
        folder: where they are.
        server: the URL of the PostgreSQL server, with `{name}` for the database; None for SQLite.
    """

    folder: Path
    server: str | None
    _databases: dict[str, str] = field(default_factory=dict)  # by kind of project

    @property
    def plugins(self) -> Plugins:
        """The plugins that they need."""
        (self.folder / "site").mkdir(exist_ok=True)
        return Plugins(self.folder / "site")

    @contextmanager
    def copied(self, name: str, folder: Path) -> Iterator[Path]:
        """Copy the project that a command starts from into a folder, and delete the copy at the end."""
        kind = name if name in {"migrate", "init"} else "past"
        template = self.folder / kind / "case/project"
        if kind not in self._databases:
            self._make(kind, template)
        shutil.copytree(template, folder, symlinks=True)
        if self.server is None or kind == "init":
            yield folder
        else:
            database = f"test_{secrets.token_hex(6)}"
            config = folder / "config/config.yaml"
            config.write_text(config.read_text().replace(self._databases[kind], database))
            with administer(self.server) as connection:
                connection.execute(sa.text(f"CREATE DATABASE {database} TEMPLATE {self._databases[kind]}"))
            yield folder
            with administer(self.server) as connection:
                connection.execute(sa.text(f"DROP DATABASE {database} WITH (FORCE)"))
        shutil.rmtree(folder)

    def _make(self, kind: str, folder: Path) -> None:
        database = self._databases[kind] = f"template_{secrets.token_hex(6)}"
        if kind == "init":
            folder.mkdir(parents=True)
            return
        create_project(folder)
        configure(folder, keep_versions="3", min_improvement_threshold="0")
        if self.server is not None:
            with administer(self.server) as connection:
                connection.execute(sa.text(f"CREATE DATABASE {database}"))
            configure(folder, url=f'"{self.server.format(name=database)}"')
        if kind == "past":
            create_past(folder, self.plugins)
        else:
            create_first_schema(folder).close()


@pytest.fixture(scope="session")
def postgresql_projects(postgresql_server: str, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """The projects on PostgreSQL."""
    return Projects(tmp_path_factory.mktemp("projects"), postgresql_server)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def projects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """The projects on SQLite, then on PostgreSQL."""
    if request.param == "sqlite":
        return Projects(tmp_path_factory.mktemp("projects"), None)
    projects: Projects = request.getfixturevalue("postgresql_projects")
    return projects
