"""Posts of several streams: in our own table and in a foreign one, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.errors import ConfigError, PostsError, UnknownName
from retrainer.posts.store import PostsSummary
from retrainer.posts.table import PostsSpan
from retrainer.registry.tables import Post
from retrainer.streams import DEFAULT_STREAM
from tests.conftest import configure, open_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retrainer.project import Project

    Fill = Callable[[str, list[tuple[object, ...]]], Project]

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = [DEFAULT_STREAM, "News", "news", "../a b", "ü*"]


def add_posts(project: Project, stream: str, *hours: float, content: str | None = "text") -> None:
    with project.registry.database.write() as session:
        for number, hour in enumerate(hours):
            time = START + hour * HOUR
            session.add(Post(stream=stream, post_id=f"{number}", created_at=time, imported_at=time, content=content))


def spans_of_each(project: Project, until: datetime) -> dict[str, PostsSpan]:
    times = {name: project.posts.for_stream(name).load(until)["created_at"] for name in NAMES}
    return {name: PostsSpan(len(found), found.min(), found.max()) for name, found in times.items()}


def test_what_is_said_of_all_streams_is_what_is_said_of_each(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    for number, name in enumerate(NAMES):
        add_posts(project, name, *range(number + 1, 9), content=None if number == 2 else "text")
    add_posts(project, "later", 100)
    until = START + 5 * HOUR
    assert project.posts.for_stream("news").summary(until) == PostsSummary(3, 0, START + 3 * HOUR, until)
    table, registry = project.posts.table, project.registry
    assert table.spans(until) == spans_of_each(project, until)
    assert registry.count_posts("timing", until) == {name: span.count for name, span in table.spans(until).items()}
    assert registry.count_posts("content", until)["news"] == 0
    assert table.newest_times(until) == dict.fromkeys(NAMES, until)
    assert table.newest_times(START) == {}


def test_posts_that_are_kept_are_those_of_the_stream_until_they_are_forgotten(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    add_posts(project, "a", *range(400))
    add_posts(project, "b", 1, 2)
    until = START + 1000 * HOUR
    store = project.posts.for_stream("a")
    freshness = store.freshness(until)
    with store.keep_loaded():
        first = store.load(until, with_content=False)
        first["note"] = 1  # changes no later one
        with project.registry.database.write() as session:
            session.add(Post(stream="a", post_id="new", created_at=until, imported_at=until, content="text"))
        assert list(store.load(until, with_content=False)) == ["post_id", "created_at"]
        assert len(store.load(until, with_content=False)) == 400
        assert store.freshness(until) == freshness
        assert len(store.for_stream("b").load(until, with_content=False)) == 2
        store.forget_loaded()
        assert len(store.load(until, with_content=False)) == 401
    assert len(store.load(until)) == 401
    assert store.freshness(until) != freshness


def test_while_posts_are_kept_moves_are_read_once_but_never_before_posts(folder_on_each_database: Path) -> None:
    """Posts that were read after a move have its new time, so the move must be known."""
    project = open_project(folder_on_each_database)
    add_posts(project, "a", *range(10))
    until, through = START + 1000 * HOUR, (START + 6 * HOUR, "6")
    store = project.posts.for_stream("a")

    def move(post_id: str) -> None:
        with project.registry.database.write() as session:
            post = session.get_one(Post, ("a", post_id))
            post.moved_from, post.moved_at, post.created_at = post.created_at, until, START + 100 * HOUR

    def moved() -> set[str]:
        return store.find_moved(START + 20 * HOUR, through)

    move("7")  # not trained on
    move("1")
    with store.keep_loaded():
        store.load(until)
        assert moved() == {"1"}
        assert store.find_moved(until, through) == store.find_moved(START, (START, "0")) == set()
        move("2")
        store.load(until)
        assert moved() == {"1"}, "the posts that are kept do not know of it either"
        store.load_after((START, None), until, 1, with_content=False)
        assert moved() == {"1", "2"}
        move("3")
        store.forget_loaded()
        assert moved() == {"1", "2", "3"}
        move("4")
        assert store.for_stream("a").find_moved(START, through) == {"1", "2", "3", "4"}
    assert moved() == {"1", "2", "3", "4"}
    assert store.find_moved(START, through, since=START + 101 * HOUR) == set()


@pytest.fixture
def foreign(folder_on_each_database: Path) -> Fill:
    """Return a function that makes a foreign table (id, at, said, account) in the project's database."""

    def fill(stream_type: str, rows: list[tuple[object, ...]]) -> Project:
        project = open_project(folder_on_each_database)
        with project.registry.database.write() as session:
            session.execute(sa.text(f"CREATE TABLE toots (id TEXT, at TEXT, said TEXT, account {stream_type})"))
            session.execute(sa.text("CREATE INDEX by_account ON toots (account)"))
            for row in rows:
                values = dict(zip(("id", "at", "said", "account"), row, strict=True))
                session.execute(sa.text("INSERT INTO toots VALUES (:id, :at, :said, :account)"), values)
        columns = {"post_id": "id", "created_at": "at", "content": "said", "stream": "account"}
        configure(folder_on_each_database, table="toots", **columns)
        return open_project(folder_on_each_database)

    return fill


def rows_of(stream: object, count: int) -> list[tuple[object, ...]]:
    return [(f"{number}", f"2025-01-01T{number:02}:00Z", "text", stream) for number in range(count)]


def test_a_foreign_table_has_the_streams_of_its_column(foreign: Fill, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row for number, name in enumerate(NAMES) for row in rows_of(name, number + 1)]
    invalid: list[object] = [None, "", "a\nb", "x" * 201]
    project = foreign("VARCHAR(300)", rows + [row for value in invalid for row in rows_of(value, 2)])
    until = START + 2 * HOUR
    assert project.list_streams() == sorted(NAMES)
    assert "whose stream is not a valid name, such as ''" in caplog.text
    for number, name in enumerate(NAMES):
        posts = project.posts.for_stream(name)
        assert posts.table.has_stream(name)
        assert len(posts.load(until)) == posts.count(until) == posts.summary(until).count == min(number + 1, 3)
        assert posts.get_post("0").stream == name
        freshness = posts.freshness(until)
        assert freshness is not None
        assert freshness.newest_at == START + min(number, 2) * HOUR
        with pytest.raises(UnknownName, match="no post '9'"):
            posts.get_post("9")
        with pytest.raises(PostsError, match="read-only"):
            posts.delete(["0"])
    assert project.posts.table.spans(until) == spans_of_each(project, until)
    assert project.posts.table.newest_times(START) == dict.fromkeys(NAMES, START)
    for name in ("NEWS", "", "new", "a\nb", "x" * 201, "a\0b"):
        assert not project.posts.table.has_stream(name)
        assert project.posts.for_stream(name).count(until) == 0


@pytest.mark.parametrize("kind", ["BIGINT", "CHAR(5)", "TEXT COLLATE {nocase}"])
def test_streams_of_a_foreign_table_compare_exactly_whatever_the_type_of_the_column(
    foreign: Fill, kind: str, folder_on_each_database: Path
) -> None:
    is_sqlite = "sqlite:" in open_project(folder_on_each_database).settings.database.url
    names = ["12", "34"] if kind == "BIGINT" else ["ab", "AB"]
    rows = [row for name in names for row in rows_of(int(name) if kind == "BIGINT" else name, 3)]
    project = foreign(kind.format(nocase="NOCASE" if is_sqlite else '"C"'), rows)
    assert project.list_streams() == sorted(names)
    for name in names:
        assert project.posts.for_stream(name).count(START + 1 * HOUR) == 2
        assert project.posts.table.has_stream(name)
    assert set(project.posts.table.spans(START)) == set(names)
    for name in ("aB", "012", "12.0", "9" * 30, "-12", "²"):
        assert not project.posts.table.has_stream(name)


def test_without_a_column_of_streams_a_foreign_table_is_the_stream_default(foreign: Fill) -> None:
    project = foreign("TEXT", rows_of("a", 3))
    configure(project.folder, stream="null")
    project = open_project(project.folder)
    assert project.list_streams() == [DEFAULT_STREAM]
    assert len(project.posts.load(START + 9 * HOUR)) == 3
    assert project.posts.for_stream("a").load(START + 9 * HOUR).empty
    table = project.posts.table
    assert set(table.spans(START)) == set(table.newest_times(START)) == {DEFAULT_STREAM}


def test_a_column_of_streams_that_is_not_there_is_named(foreign: Fill) -> None:
    project = foreign("TEXT", [])
    configure(project.folder, stream="acount")
    with pytest.raises(
        ConfigError, match=r"posts.columns.stream: the table 'toots' .* has no column 'acount'"
    ) as error:
        _ = open_project(project.folder).posts
    assert "account" in error.value.hint
