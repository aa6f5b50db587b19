"""The queries for the posts of one stream look at its posts alone, whatever the number of other streams."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from retrainer.registry.tables import Post
from tests.conftest import configure, open_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from retrainer.posts.store import PostStore
    from retrainer.project import Project

START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=60)
STREAMS = [f"stream {number:03}" for number in range(100)]
POSTS = 70  # of each

OF_ONE: dict[str, Callable[[PostStore], object]] = {
    "load": lambda posts: posts.load(NOW),
    "load without content": lambda posts: posts.load(NOW, with_content=False),
    "summary": lambda posts: posts.summary(NOW),
    "count": lambda posts: posts.count(NOW),
    "count of those with content": lambda posts: posts.count(NOW, with_content=True),
    "freshness": lambda posts: posts.freshness(NOW),
    "activity": lambda posts: posts.activity(NOW),
    "list": lambda posts: posts.list_posts(START, NOW, 10),
    "get": lambda posts: posts.get_post("1"),
    "has_stream": lambda posts: posts.table.has_stream(posts.stream),
    "has another stream": lambda posts: posts.table.has_stream("999"),
}
OF_OWN: dict[str, Callable[[PostStore], object]] = {
    "find_moved": lambda posts: posts.find_moved(START, (START, "1")),
    "are_past": lambda posts: posts.are_past(NOW),
    "import": lambda posts: posts.merge([[(0, 1, posts.stream, "1", 0, "a", None, None, None)]], NOW),
}
OF_ALL: dict[str, Callable[[PostStore], object]] = {
    "list_streams": lambda posts: posts.table.list_streams(),
    "newest_times": lambda posts: posts.table.newest_times(NOW),
}


def fill(project: Project) -> None:
    """Add posts, in the order of their times, so that those of a stream are far from each other."""
    rows = [
        {
            "stream": stream,
            "post_id": f"{number}",
            "created_at": START + timedelta(hours=number),
            "content": "text" * 20,
            "imported_at": NOW,
        }
        for number in range(POSTS)
        for stream in STREAMS
    ]
    with project.registry.database.write() as session:
        session.execute(sa.insert(Post), rows)


@contextmanager
def plans(engine: sa.Engine, table: str) -> Iterator[list[str]]:
    """Collect the query plans of the statements that read a table."""
    statements: list[tuple[str, Any]] = []
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if f"FROM {table}" in statement:
            statements.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        for statement, parameters in statements:
            rows = connection.exec_driver_sql(explain + statement, parameters).fetchall()
            found.append("\n".join([statement, *(str(row[-1]) for row in rows)]))


def check(what: str, found: list[str], table: str, column: str) -> None:
    """Check that each plan looks up the stream in an index, and none reads the whole table."""
    assert found, what
    for plan in found:
        assert not re.search(rf"Seq Scan on {table}|SCAN {table}", plan), f"{what}: {plan}"
        if what not in OF_ALL:  # of their recursion, PostgreSQL does not explain each step
            assert re.search(rf"\({column}=\?|Index Cond: .*\b{column} = ", plan), f"{what}: {plan}"


def analyze(project: Project, table: str) -> None:
    """Let PostgreSQL count the rows, as it does by itself after a while."""
    if project.registry.database.engine.dialect.name == "postgresql":
        with project.registry.database.write() as session:
            session.execute(sa.text(f"ANALYZE {table}"))


def test_queries_for_a_stream_look_it_up_in_an_index(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    fill(project)
    analyze(project, "posts")
    posts = project.posts.for_stream(STREAMS[7])
    for what, query in (OF_ONE | OF_ALL | OF_OWN).items():
        with plans(project.registry.database.engine, "posts") as found:
            query(posts)
        check(what, found, "posts", "stream")


@pytest.mark.parametrize("kind", ["TEXT", "BIGINT"])
def test_queries_for_a_stream_look_it_up_in_the_index_of_a_foreign_table(
    folder_on_each_database: Path, kind: str
) -> None:
    project = open_project(folder_on_each_database)
    with project.registry.database.write() as session:
        session.execute(sa.text(f"CREATE TABLE toots (id TEXT, at TEXT, said TEXT, account {kind})"))
        session.execute(sa.text("CREATE INDEX by_account ON toots (account)"))
        rows = [
            {"id": f"{number}", "at": f"{START + timedelta(hours=number)}", "said": "text" * 20, "account": account}
            for number in range(POSTS)
            for account in range(len(STREAMS))
        ]
        session.execute(sa.text("INSERT INTO toots VALUES (:id, :at, :said, :account)"), rows)
    analyze(project, "toots")
    configure(folder_on_each_database, table="toots", post_id="id", created_at="at", content="said", stream="account")
    posts = open_project(folder_on_each_database).posts.for_stream("7")
    for what, query in OF_ONE.items():
        with plans(posts.table.engine, "toots") as found:
            query(posts)
        check(what, found, "toots", "account")
