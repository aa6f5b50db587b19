"""Whether posts still arrive, on both databases and in a foreign table."""

from __future__ import annotations

import sqlite3
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from retrainer.posts.freshness import measure_freshness
from retrainer.registry.tables import Post
from retrainer.streams import DEFAULT_STREAM
from tests.conftest import NOW, configure, open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def times_of(*hours: float) -> pd.Series[pd.Timestamp]:
    return pd.Series([START + hour * HOUR for hour in hours], dtype="datetime64[us, UTC]")


def test_without_posts_there_is_nothing_to_measure() -> None:
    assert measure_freshness(times_of(), START) is None


def test_one_post_is_never_stale() -> None:
    freshness = measure_freshness(times_of(0), START + 10_000 * HOUR)
    assert freshness is not None
    assert (freshness.usual_gap, freshness.stale_at, freshness.is_stale) == (None, None, False)


def test_a_few_posts_are_stale_after_twice_their_longest_gap() -> None:
    times = times_of(0, 1, 4, 5)
    just_usual, too_long = (measure_freshness(times, START + hours * HOUR) for hours in (11, 11.01))
    assert just_usual is not None
    assert too_long is not None
    assert just_usual.usual_gap == 6 * HOUR
    assert just_usual.stale_at == START + 11 * HOUR
    assert not just_usual.is_stale
    assert too_long.is_stale
    assert too_long.silence == 6.01 * HOUR


def test_many_posts_are_stale_after_longer_than_99_9_percent_of_their_gaps() -> None:
    gaps = np.ones(4999)
    gaps[100:105] = [500, 400, 300, 200, 100]
    freshness = measure_freshness(times_of(*np.cumsum([0, *gaps])), START + 10_000 * HOUR)
    assert freshness is not None
    assert freshness.usual_gap == 100 * HOUR  # 4 of 4999 are longer


def test_only_the_latest_gaps_count() -> None:
    freshness = measure_freshness(times_of(0, *(5_000 + np.arange(10_001))), START + 15_100 * HOUR)
    assert freshness is not None
    assert freshness.usual_gap == HOUR
    assert freshness.is_stale


def add_posts(project: Project, *hours: float, stream: str = DEFAULT_STREAM) -> None:
    with project.registry.database.write() as session:
        for number, hour in enumerate(hours):
            time = START + hour * HOUR
            session.add(Post(stream=stream, post_id=f"{number}", created_at=time, imported_at=time))


def test_the_posts_of_a_stream_until_now_count(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    assert project.posts.freshness(START) is None
    add_posts(project, 0, 1, 3, 100)
    add_posts(project, 0, 50, stream="other")
    freshness = project.posts.freshness(START + 8 * HOUR)  # the post at 100 h is not known then
    assert freshness is not None
    assert freshness.newest_at == START + 3 * HOUR
    assert freshness.usual_gap == 4 * HOUR
    assert freshness.is_stale
    other = project.posts.for_stream("other").freshness(START + 60 * HOUR)
    assert other is not None
    assert not other.is_stale


def test_the_freshness_of_streams_takes_memory_for_their_latest_posts_only(
    folder_on_each_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("store", "table"):
        monkeypatch.setattr(f"retrainer.posts.{module}.MAX_GAPS", 10)
    project = open_project(folder_on_each_database)
    for name in ("a", "b"):
        project.posts.for_stream(name).add(regular_posts(3_000), NOW)
    expected = {name: project.posts.for_stream(name).freshness(NOW) for name in ("a", "b")}
    assert project.posts.table.list_freshness(["a", "b", "none"], NOW) == expected
    tracemalloc.start()
    project.posts.table.list_freshness(["a", "b"], NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000, "bytes"


@pytest.mark.parametrize("unreadable", [0, 1])
def test_a_foreign_table_has_a_freshness(sqlite_folder: Path, unreadable: int) -> None:
    with sqlite3.connect(sqlite_folder / "data" / "own.db") as connection:
        connection.execute("CREATE TABLE posts (post_id TEXT, created_at TEXT, content TEXT)")
        rows = [(f"{hour}", f"{START + hour * HOUR}", "") for hour in (3, 0, 1)]
        connection.executemany("INSERT INTO posts VALUES (?, ?, ?)", rows + [("x", "soon", "")] * unreadable)
    connection.close()
    configure(sqlite_folder)
    path = sqlite_folder / "config" / "config.yaml"
    path.write_text(path.read_text().replace("  url: null", '  url: "sqlite:///data/own.db"', 1))
    posts = open_project(sqlite_folder).posts
    assert [posts.count(START + hours * HOUR) for hours in (-1, 1, 8)] == [0, 2, 3]
    assert posts.count(START + 8 * HOUR, with_content=True) == 0
    freshness = posts.freshness(START + 8 * HOUR)
    assert freshness is not None
    assert freshness.newest_at == START + 3 * HOUR
    assert freshness.is_stale
