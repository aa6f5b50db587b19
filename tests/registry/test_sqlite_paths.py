"""SQLite files and project folders whose names hold what separates the parts of a URL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from retrainer.project import create_project
from tests.conftest import NOW, configure, open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner

NAMES = {  # by what stands in the URL
    "a#b.db": "a#b.db",
    "what?.db": "what?.db",
    "100%.db": "100%.db",
    "a%3Fb%23c%25 d?.db": "a?b#c% d?.db",
}


@pytest.mark.parametrize(("written", "name"), NAMES.items())
def test_a_database_has_the_name_in_its_url(written: str, name: str, sqlite_folder: Path) -> None:
    configure(sqlite_folder, url=f'"sqlite:///data/{written}?timeout=5"')
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(3), NOW)
    assert project.registry.database.location == f"'{sqlite_folder}/data/{name}'"
    project.close()
    with closing(sqlite3.connect(sqlite_folder / "data" / name)) as database:
        assert database.execute("SELECT count(*) FROM posts").fetchone() == (3,)
    assert {path.name for path in (sqlite_folder / "data").iterdir()} <= {name, f".{name}.lock"}


@pytest.mark.parametrize(("written", "name"), NAMES.items())
def test_posts_are_read_from_a_file_of_any_name(
    written: str, name: str, sqlite_folder: Path, tmp_path: Path, retrainer: Runner
) -> None:
    place = tmp_path / "theirs#1?"
    place.mkdir()
    with closing(sqlite3.connect(place / name)) as database, database:
        database.execute("CREATE TABLE posts (post_id TEXT, created_at TEXT, content TEXT)")
        database.execute("INSERT INTO posts VALUES ('1', '2024-01-01', 'x')")
    done = retrainer("posts", "count", "--json", RETRAINER_POSTS__URL=f"sqlite:///{place}/{written}")
    assert done.code == 0, done.err
    assert done.json["count"] == 1
    assert [path.name for path in place.iterdir()] == [name]
    assert {path.name for path in tmp_path.iterdir()} == {"project", place.name}, "nothing was created beside it"


@pytest.mark.slow
def test_a_project_may_be_in_a_folder_of_any_name(tmp_path: Path, retrainer: Runner) -> None:
    folder = tmp_path / "now?#1 100%25"
    create_project(folder)
    configure(folder)
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    for command in ("train", "doctor", "replay timing --from 2024-11-01"):
        done = retrainer(*command.split(), cwd=folder)
        assert done.code == 0, done.err
