"""Posts fetched by an SQL query, from SQLite and PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from retrainer.posts.sources import query as queries
from tests.posts.sources.conftest import add_source, stored_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.command_line import Runner

FIRST = datetime(2024, 1, 5, 10, tzinfo=UTC)
QUERY = "SELECT id AS post_id, created_at, body AS content, seen FROM statuses WHERE seen >= :since ORDER BY seen"


class Statuses:
    """A table of another program, with a column that tells when each row was changed last."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url)
        time = "timestamptz" if self.engine.dialect.name == "postgresql" else "text"
        self.execute(f"CREATE TABLE statuses (id bigint PRIMARY KEY, created_at {time}, body text, seen {time})")

    def execute(self, statement: str, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), list(rows) or None)

    def publish(self, *numbers: int) -> None:
        rows = [{"id": n, "at": self.time(n), "body": f"post {n}", "seen": self.time(n)} for n in numbers]
        self.execute("INSERT INTO statuses VALUES (:id, :at, :body, :seen)", *rows)

    def edit(self, number: int, text: str, seen: int) -> None:
        change = {"id": number, "body": text, "seen": self.time(seen)}
        self.execute("UPDATE statuses SET body = :body, seen = :seen WHERE id = :id", change)

    def time(self, number: int) -> object:
        time = FIRST + timedelta(hours=number)
        return time if self.engine.dialect.name == "postgresql" else f"{time:%Y-%m-%d %H:%M:%S}"

    def settings(self, **options: Any) -> dict[str, Any]:
        return {"type": "sql", "url": self.url, "query": QUERY, "cursor": "seen", **options}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def statuses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Statuses]:
    if request.param == "sqlite":
        made = Statuses(f"sqlite:///{tmp_path}/other.db")
    else:
        made = Statuses(request.getfixturevalue("make_postgresql_database")())
    yield made
    made.engine.dispose()


def test_new_and_edited_rows_are_fetched(statuses: Statuses, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", statuses.settings())
    statuses.publish(*range(5))
    assert retrainer("posts", "fetch").out == "ada: 5 added, 0 updated, 0 unchanged\n"
    statuses.publish(5, 6)
    statuses.edit(1, "post 1, corrected", seen=7)
    assert retrainer("posts", "fetch").out == "ada: 2 added, 1 updated, 1 unchanged\n"
    assert stored_texts(folder) == ["post 0", "post 1, corrected", *(f"post {n}" for n in range(2, 7))]


@pytest.mark.slow
def test_a_query_without_since_reads_everything_again(statuses: Statuses, folder: Path, retrainer: Runner) -> None:
    add_source(
        folder, "ada", statuses.settings(query="SELECT id AS post_id, created_at, body AS content FROM statuses")
    )
    statuses.publish(*range(5))
    retrainer("posts", "fetch")
    statuses.edit(1, "post 1, corrected", seen=1)
    assert retrainer("posts", "fetch").out == "ada: 0 added, 1 updated, 4 unchanged\n"


@pytest.mark.slow
def test_the_columns_of_a_query_can_be_named(statuses: Statuses, folder: Path, retrainer: Runner) -> None:
    columns = {"post_id": "id", "content": "body"}
    query = QUERY.replace("id AS post_id", "id").replace("body AS content", "body")
    add_source(folder, "ada", statuses.settings(query=query, columns=columns, clean_ups=["html"]))
    statuses.execute(
        "INSERT INTO statuses VALUES (:id, :at, :body, :at)",
        {"id": 1, "at": statuses.time(1), "body": "<p>a &amp; b</p>"},
    )
    retrainer("posts", "fetch")
    assert stored_texts(folder) == ["a & b"]


@pytest.mark.slow
@pytest.mark.parametrize("same_time", [False, True])
def test_a_fetch_that_ends_between_pages_goes_on_without_loss(
    statuses: Statuses, same_time: bool, folder: Path, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE_ROWS", 3)
    add_source(
        folder, "ada", statuses.settings(max_pages=3, query=QUERY.replace(">=", ">") if not same_time else QUERY)
    )
    statuses.publish(*range(12))
    if same_time:
        statuses.execute("UPDATE statuses SET seen = :seen WHERE id BETWEEN 3 AND 8", {"seen": statuses.time(3)})
    for _ in range(6):
        done = retrainer("posts", "fetch")
        assert done.code == 0, done.err
    assert sorted(stored_texts(folder)) == sorted(f"post {n}" for n in range(12))


@pytest.mark.slow
def test_a_killed_fetch_goes_on(statuses: Statuses, folder: Path, retrainer: Runner) -> None:
    """The process is killed when it has read its second page and not stored it."""
    add_source(folder, "ada", statuses.settings())
    statuses.publish(*range(2_500))
    code = (
        "import os, signal, sys\n"
        "from retrainer.__main__ import main\n"
        "from retrainer.posts.sources import query as sql\n"
        "read, pages = sql._Cursors.read, []\n"
        "def killing(self, values, column):\n"
        "    pages.append(values)\n"
        "    if len(pages) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    read(self, values, column)\n"
        "sql._Cursors.read = killing; sys.argv = ['retrainer', 'posts', 'fetch']; main()"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == -signal.SIGKILL
    assert len(stored_texts(folder)) == queries.PAGE_ROWS
    assert retrainer("posts", "fetch").out == "ada: 1500 added, 0 updated, 2 unchanged\n"


@pytest.mark.slow
def test_a_lost_connection_is_one_line_and_the_next_fetch_goes_on(
    make_postgresql_database: Callable[[], str], folder: Path, retrainer: Runner
) -> None:
    statuses = Statuses(make_postgresql_database())
    statuses.publish(*range(3))
    cut = QUERY.replace("seen FROM", "seen, pg_terminate_backend(pg_backend_pid()) FROM")
    add_source(folder, "ada", statuses.settings(query=cut))
    done = retrainer("posts", "fetch")
    assert done.code == 1
    assert done.err.startswith("ERROR: 'ada': the database 'postgresql+psycopg://postgres@")
    assert done.err.count("\n") == 1
    add_source(folder, "ada", statuses.settings())
    assert retrainer("posts", "fetch").out == "ada: 3 added, 0 updated, 0 unchanged\n"
    statuses.engine.dispose()


@pytest.mark.slow
def test_types_of_postgresql_are_read(
    make_postgresql_database: Callable[[], str], folder: Path, retrainer: Runner
) -> None:
    url = make_postgresql_database()
    query = """
        SELECT 'a8098c1a-f86e-11da-bd1a-00112444be1e'::uuid AS post_id, date '2024-01-05' AS created_at,
               12::numeric AS replies_count, 3::smallint AS reblogs_count, 'text'::varchar AS content
    """
    add_source(folder, "ada", {"type": "sql", "url_variable": "WAREHOUSE", "query": query})
    done = retrainer("posts", "fetch", env={"WAREHOUSE": url})
    assert done.out == "ada: 1 added, 0 updated, 0 unchanged\n", done.err
    post = retrainer("posts", "show", "a8098c1a-f86e-11da-bd1a-00112444be1e", "--json").json
    assert (post["created_at"], post["replies_count"], post["reblogs_count"]) == ("2024-01-05T00:00:00Z", 12, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "DELETE FROM statuses RETURNING id AS post_id, created_at"}, "ada"),
        ({"query": "SELECT 1; DELETE FROM statuses"}, "ada"),
        ({"query": "SELEC 1"}, "syntax error"),
        ({"query": QUERY.replace("ORDER BY seen", "ORDER BY seen DESC")}, "the query does not sort by 'seen'"),
        ({"query": QUERY.replace("seen FROM", "NULL AS seen FROM")}, "the cursor column 'seen' has a NULL"),
        ({"cursor": "sen"}, "cursor: the query returns no column 'sen'. Did you mean 'seen'?"),
        ({"columns": {"content": "text"}}, "columns.content: the query returns no column 'text'"),
        ({"query": "SELECT id FROM statuses"}, "columns.created_at: the query returns no column 'created_at'"),
        ({"query": QUERY + ", :other"}, "A value is required for bind parameter 'other'"),
    ],
)
def test_a_wrong_query_is_one_line_and_changes_nothing(
    statuses: Statuses, options: dict[str, str], message: str, folder: Path, retrainer: Runner
) -> None:
    statuses.publish(*range(3))
    add_source(folder, "ada", statuses.settings(**options))
    done = retrainer("posts", "fetch")
    assert done.code in {1, 2}
    assert message in done.err
    assert done.err.count("\n") == 1
    with statuses.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM statuses")) == 3
