"""`train --fetch` trains on what was fetched, and on what is there if fetching fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conftest import NOW, import_regular_posts, open_project, regular_posts
from tests.notify.receiver import Receiver
from tests.posts.sources.conftest import add_source
from tests.posts.sources.servers import Answer, FeedServer, MastodonServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner

pytestmark = pytest.mark.slow


def test_it_trains_on_what_was_fetched(folder: Path, retrainer: Runner) -> None:
    with MastodonServer() as server:
        server.publish(60)
        add_source(folder, "ada", server.settings())
        done = retrainer("train", "timing", "--fetch", "--if-due")
    assert done.code == 0, done.err
    assert "Fetched from ada: 60 added" in done.err
    assert "Split data: 48 train, 12 test" in done.err


def test_new_posts_make_a_type_due(folder: Path, retrainer: Runner) -> None:
    with MastodonServer() as server:
        server.publish(60)
        add_source(folder, "ada", server.settings())
        settings = {"RETRAINER_RETRAINING__MIN_NEW_POSTS": "20"}
        retrainer("train", "timing", "--fetch", env=settings)
        assert retrainer("train", "timing", "--fetch", "--if-due", "--json", env=settings).json["count"] == 0
        server.publish(20)
        assert retrainer("train", "timing", "--fetch", "--if-due", "--json", env=settings).json["count"] == 1


def test_a_source_that_fails_prevents_no_training_but_is_reported(folder: Path, retrainer: Runner) -> None:
    import_regular_posts(folder)
    with FeedServer() as server, Receiver() as healthcheck:
        server.faults = [Answer(b"", 404)]
        add_source(folder, "ada", server.settings())
        ping = {"PING_URL": f"{healthcheck.url}/ping", "RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE": "PING_URL"}
        done = retrainer("--quiet", "train", "timing", "--fetch", "--if-due", "--json", "--exit-code", env=ping)
    assert (done.code, done.json["count"]) == (1, 1)
    error, warning = done.err.splitlines()
    assert error == "ERROR: 'ada': 127.0.0.1 returned HTTP 404. Check its URL and account"
    assert warning.startswith("WARNING: The posts are stale: ")
    assert [request.path for request in healthcheck.received] == ["/ping/start", "/ping/fail"]
    assert retrainer("history", "--json").json["training_runs"][0]["promoted_to_production"]


def test_posts_in_a_foreign_table_cannot_be_fetched_but_trained_on(
    folder: Path, retrainer: Runner, make_foreign_posts: str
) -> None:
    add_source(folder, "ada", {"type": "feed", "url": "http://127.0.0.1:9/feed"})
    done = retrainer("train", "timing", "--fetch", "--json", RETRAINER_POSTS__URL=make_foreign_posts)
    assert (done.code, done.json["count"]) == (1, 1)
    assert "ERROR: No posts were fetched: cannot import: the table 'posts' of" in done.err


@pytest.fixture
def make_foreign_posts(tmp_path: Path) -> str:
    import pandas as pd
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path}/foreign.db"
    engine = sa.create_engine(url)
    posts = regular_posts(120, start=datetime.now(UTC) - timedelta(days=60))[["post_id", "created_at", "content"]]
    with engine.begin() as connection:
        pd.DataFrame(posts).assign(created_at=posts["created_at"].astype(str)).to_sql("posts", connection)
    engine.dispose()
    return url


def test_without_sources_it_only_trains(folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    done = retrainer("train", "timing", "--fetch", "--json")
    assert (done.code, done.json["count"]) == (0, 1)


@pytest.mark.parametrize("option", [["--dry-run"], ["--as-of", "2024-06-01"]])
def test_it_excludes_options_of_runs_that_change_nothing(option: list[str], retrainer: Runner, folder: Path) -> None:
    done = retrainer("train", "timing", "--fetch", *option)
    assert (done.code, done.err) == (2, f"Error: --fetch and {option[0]} exclude each other. Omit one\n")
