"""The commands that look at posts and delete them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.run import retrain
from tests.conftest import NOW, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner


DEFAULT = ("--stream", "default")


@pytest.fixture
def folder(sqlite_folder: Path) -> Path:
    """A project with ten posts, an hour apart; one more is in the stream `other`."""
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(10, gap_hours=1, start=datetime(2024, 1, 1, tzinfo=UTC)), NOW)
    project.posts.for_stream("other").add(regular_posts(1).assign(content="elsewhere"), NOW)
    project.close()
    return sqlite_folder


@pytest.mark.usefixtures("folder")
def test_list_shows_the_latest_posts_of_a_period_newest_last(retrainer: Runner) -> None:
    period = ("--from", "2024-01-01T02:00", "--to", "2024-01-01T06:00")
    listed = retrainer("posts", "list", *period, "--limit", "3", *DEFAULT, "--json").json
    assert [post["post_id"] for post in listed["posts"]] == ["p00004", "p00005", "p00006"]
    assert (listed["count"], listed["total"]) == (3, 5)
    shown = retrainer("posts", "list", *period, "--limit", "3", *DEFAULT).out
    assert shown.startswith("Posts (3 of 5)\n")
    assert shown.index("2024-01-01 04:00:00") < shown.index("2024-01-01 06:00:00")
    assert retrainer("posts", "list", "--from", "2025-01-01", *DEFAULT).out == "No posts\n"


@pytest.mark.usefixtures("folder")
def test_a_post_is_found_in_its_stream_only(retrainer: Runner) -> None:
    assert retrainer("posts", "show", "p00000", *DEFAULT, "--json").json["content"].startswith("post number 0")
    assert retrainer("posts", "show", "p00000", "--stream", "other", "--json").json["content"] == "elsewhere"
    assert retrainer("posts", "show", "p00000", "--stream", "other", "--json").json["trained_versions"] == []
    assert retrainer("posts", "list", "--stream", "other", "--json").json["total"] == 1
    assert "1 post, 1 with text" in retrainer("posts", "count", "--stream", "other").out
    unknown = retrainer("posts", "show", "p00001", "--stream", "other")
    assert unknown.code == 2
    several = retrainer("posts", "show", "p00001")
    assert (several.code, "the project has 2 streams. Choose one with --stream" in several.err) == (2, True)
    assert "no post 'p00001' in the stream 'other' of the table 'posts' of" in unknown.err


@pytest.mark.usefixtures("folder")
def test_delete_asks_first_and_deletes_all_or_nothing(retrainer: Runner) -> None:
    refused = retrainer("posts", "delete", "p00001", *DEFAULT)
    assert refused.code == 2
    assert "nothing was deleted: no terminal to ask for confirmation. Add --yes" in refused.err
    unknown = retrainer("posts", "delete", "p00001", "p1", "--yes", *DEFAULT)
    assert unknown.code == 2
    assert "no post 'p1' in the table 'posts' of" in unknown.err
    assert retrainer("posts", "count", *DEFAULT, "--json").json["count"] == 10
    done = retrainer("posts", "delete", "p00001", "p00003", "p00001", "--yes", *DEFAULT)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "Deleted 2 posts"
    assert retrainer("posts", "count", *DEFAULT, "--json").json["count"] == 8
    assert retrainer("posts", "show", "p00000", "--stream", "other").code == 0, "the same id in another stream"


def test_the_versions_trained_on_a_post_are_named_and_go_on(sqlite_folder: Path, retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120).assign(content=None), NOW)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    version = project.registry.get_version(str(run.model_version_id))
    late = regular_posts(1, start=version.trained_through - timedelta(hours=1)).assign(post_id="late")
    project.posts.add(late, NOW + timedelta(hours=1))
    project.close()
    trained = {
        post_id: retrainer("posts", "show", post_id, "--json").json["trained_versions"]
        for post_id in ("p00000", version.trained_through_post_id, "p00119", "late")
    }
    named = [version.version_id]
    assert trained == {"p00000": named, version.trained_through_post_id: named, "p00119": [], "late": []}
    done = retrainer("posts", "delete", "p00000", "p00119", "--yes")
    assert done.out.splitlines()[:2] == [
        f"Post 'p00000': trained on it: {version.version_id}",
        "Post 'p00119': no version was trained on it",
    ]
    assert retrainer("predict", "timing", "--json").json["version_id"] == version.version_id
    assert retrainer("train", "timing").code == 0


def test_a_foreign_post_is_shown_and_not_deleted(sqlite_folder: Path, tmp_path: Path, retrainer: Runner) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(3), NOW)
    project.close()
    environ = {"RETRAINER_POSTS__URL": f"sqlite:///{sqlite_folder}/data/retrainer.db"}
    assert retrainer("posts", "list", "--limit", "2", "--json", env=environ).json["total"] == 3
    assert retrainer("posts", "show", "p00002", "--json", env=environ).json["content"].startswith("post number 2")
    refused = retrainer("posts", "delete", "p00002", "--yes", env=environ)
    assert refused.code == 1
    assert "cannot delete posts: the table 'posts' of" in refused.err


def test_a_correction_that_moves_a_post_is_shown_and_left_out_of_evaluations(
    sqlite_folder: Path, retrainer: Runner
) -> None:
    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(120), NOW)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    project.close()
    assert run
    (sqlite_folder / "corrected.csv").write_text(
        "id,created_at\np00010,2024-11-15T10:30:00Z\np00119,2024-11-15T11:00Z\n"
    )
    done = retrainer("posts", "import", "corrected.csv", "--update")
    assert done.code == 0, done.err
    post = retrainer("posts", "show", "p00010", "--json").json
    assert (post["created_at"], post["moved_from"]) == ("2024-11-15T10:30:00Z", "2024-10-23T14:00:00Z")
    assert post["content"], "a correction without a text keeps the text"
    assert post["trained_versions"] == [run.model_version_id]
    evaluated = retrainer("evaluate", str(run.model_version_id), "--json")
    assert evaluated.json["window"]["posts"] == 24, "all but the one it was trained on"
    assert "Left out 1 post that moved in time after" in evaluated.err
