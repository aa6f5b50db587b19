"""The command `live`: it scores what is new, and says how production does, for one stream or many."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from retrainer.api.project_metrics import ProjectMetrics
from retrainer.errors import AlgorithmError
from retrainer.live.update import update_live
from retrainer.pipeline.run import retrain
from tests.cli.test_hostile_text import HOSTILE, assert_harmless
from tests.conftest import NOW, open_project, regular_posts, runtime_of, train_timing
from tests.live.scores import losses, record_scores

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.conftest import Prepare

on_each_database = pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
NAME = "../x y/\u202eü*"


def let_posts_come(folder: Path) -> str:
    """Train a timing version, and let 40 posts come after it, at the same gaps; return the version."""
    version_id = train_timing(folder)
    project = open_project(folder)
    later = regular_posts(40, start=NOW + timedelta(hours=5))
    project.posts.add(later.assign(post_id=[f"later-{row:02d}" for row in range(40)]), NOW + timedelta(days=9))
    project.close()
    return version_id


@pytest.fixture
def version(folder: Path, prepare: Prepare) -> str:
    return prepare(folder, let_posts_come)


@on_each_database
def test_the_posts_since_the_promotion_are_scored(version: str, retrainer: Runner) -> None:
    done = retrainer("live", "timing", "--json")
    assert done.code == 0, done.err
    (model,) = done.json["models"]
    assert (model["version_id"], model["num_posts"], model["stream"]) == (version, 40, "default")
    assert sum(week["num_posts"] for week in model["weeks"]) == 40
    assert [one["against"] for one in model["comparisons"]] == ["naive"]
    shown = retrainer("live", "timing").out
    assert shown.startswith(f"Timing: {version}, promoted ")
    assert ", scored on posts after 2024-11-15 12:00 UTC" in shown
    assert model["sentence"] in shown
    assert shown.count("\n2024-11-") == 2, "a line a week, and they are scored once"


@pytest.mark.usefixtures("version")
def test_weeks_before_a_time_are_left_out(retrainer: Runner) -> None:
    since = retrainer("live", "timing", "--since", "2024-11-20", "--json").json["models"][0]
    assert [week["start"] for week in since["weeks"]] == ["2024-11-18T00:00:00Z"]
    assert since["num_posts"] == 40
    assert "No live posts since 2030-01-01" in retrainer("live", "timing", "--since", "2030-01-01").out


def test_nothing_in_production_fails(folder: Path, retrainer: Runner) -> None:
    assert folder.exists()
    done = retrainer("live")
    assert (done.code, "no version is in production. Run `retrainer train`" in done.err) == (1, True)
    done = retrainer("live", "content")
    assert (done.code, "no content version is in production" in done.err) == (1, True)


@pytest.mark.slow
@pytest.mark.usefixtures("version")
def test_the_plot_is_written(folder: Path, retrainer: Runner) -> None:
    pictures = []
    for name, start in (("live.png", b"\x89PNG"), ("live.svg", b"<?xml"), ("live.svg", b"<?xml")):
        done = retrainer("live", "timing", "--plot", name)
        assert done.code == 0, done.err
        pictures.append((folder / name).read_bytes())
        assert pictures[-1].startswith(start)
    assert pictures[1] == pictures[2], "the same scores are the same picture"


@pytest.mark.usefixtures("version")
def test_a_plot_that_cannot_be_drawn_is_refused(folder: Path, retrainer: Runner) -> None:
    for name, message in (
        ("live.gif", "--plot: unsupported format 'live.gif'. Choose a name that ends in .png or .svg"),
        ("no/live.svg", "--plot: folder 'no' does not exist. Create it, or choose another"),
        ("models/timing/new.svg", "--plot: 'models/timing/new.svg' belongs to the project. Choose another file"),
    ):
        done = retrainer("live", "timing", "--plot", name)
        assert (done.code, message in done.err, done.out) == (2, True, "")
    assert not (folder / "models/timing/new.svg").exists()


@pytest.mark.slow
def test_without_live_posts_there_is_nothing_to_plot(folder: Path, prepare: Prepare, retrainer: Runner) -> None:
    prepare(folder, train_timing)
    assert "no live post has been scored yet" in retrainer("live", "timing").out
    done = retrainer("live", "timing", "--plot", "live.svg")
    assert (done.code, "--plot: no live post has been scored yet" in done.err) == (2, True)
    assert not (folder / "live.svg").exists()


@pytest.mark.slow
def test_a_plot_is_of_one_model_type(folder: Path, version: str, retrainer: Runner) -> None:
    assert version
    project = open_project(folder)
    retrain(project, runtime_of(project), "content", NOW)
    project.close()
    done = retrainer("live", "--plot", "live.svg")
    assert (done.code, "--plot applies to one model type only. Choose timing or content" in done.err) == (2, True)
    assert [one["model_type"] for one in retrainer("live", "--json").json["models"]] == ["timing", "content"]


def make_streams(folder: Path) -> None:
    project = open_project(folder)
    for name in ("news", NAME):
        own = project.for_stream(name)
        own.posts.add(regular_posts(120), NOW)
        retrain(own, runtime_of(own), "timing", NOW)
        update_live(own, runtime_of(own), "timing", NOW)
        worse = name == "news"
        record_scores(own, "naive", losses(200, 6.0 if worse else 3.0), losses(200, 3.0 if worse else 6.0, seed=2))
    project.close()


@on_each_database
def test_several_streams_have_a_line_each(folder: Path, prepare: Prepare, retrainer: Runner) -> None:
    prepare(folder, make_streams)
    done = retrainer("live")
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if " timing " in line]
    assert [row.rpartition("  ")[2] for row in rows] == ["fine", "worse than naive"]
    assert "../x y/\\u202eü*" in rows[0]
    assert "\u202e" not in done.out
    found = retrainer("live", "--json").json["models"]
    assert {one["stream"]: one["verdict"] for one in found} == {NAME: "fine", "news": "worse_than_naive"}
    assert [one["stream"] for one in retrainer("live", "--stream", "n*", "--json").json["models"]] == ["news"]
    whole = retrainer("live", "--stream", "news", "--json").json["models"][0]
    assert whole["weeks"]
    for option in (["--since", "2024-01-01"], ["--plot", "x.svg"], ["--dry-run"]):
        refused = retrainer("live", *option)
        assert (refused.code, f"{option[0]} applies to one stream only" in refused.err) == (2, True)
    status = retrainer("status", "--json").json["problems"]
    assert [one["stream"] for one in status if one["kind"] == "degraded"] == ["news"]


@pytest.mark.parametrize("damage", ["sums = '[]'", "sums = '{}'", "num_scored = -1", "through = 'never'"])
@on_each_database
def test_damaged_sums_of_one_stream_hide_no_other(
    folder: Path, prepare: Prepare, retrainer: Runner, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    prepare(folder, make_streams)
    project = open_project(folder)
    database = project.registry.database
    if damage.startswith("through") and database.engine.dialect.name == "postgresql":
        pytest.skip("PostgreSQL refuses it")
    with database.write() as session:
        session.execute(sa.text(f"UPDATE retrainer_live_comparisons SET {damage} WHERE stream = 'news'"))
    monkeypatch.setattr("retrainer.live.refresh.MAX_MODELS", 1)  # an update would repair most of them
    done = retrainer("live", "--json")
    assert [one["stream"] for one in done.json["models"]] == [NAME]
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "Cannot show the live scores of the timing model of the stream 'news': the " in line
    assert retrainer("live", "content").out == "Nothing is in production\n"
    problems = retrainer("status", "--json").json["problems"]
    assert [one["stream"] for one in problems if one["kind"] == "damaged_scores"] == ["news"]
    metrics = ProjectMetrics(project).text(NOW).decode()
    assert set(re.findall(r'^retrainer_live_posts\{.*stream="(.*)"', metrics, re.MULTILINE)) == {NAME}
    trained = retrainer("train", "timing", "--all-streams", "--json")
    assert "unexpected" not in trained.err
    assert "No rollback by evidence" not in trained.err
    assert trained.code == 0, trained.err


def test_one_stream_that_fails_does_not_end_the_others(
    folder: Path, prepare: Prepare, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(folder, make_streams)
    updated = []

    def fail_for_news(project: Project, *args: Any, **options: Any) -> None:
        if project.stream == "news":
            raise AlgorithmError("out of order")
        updated.append(project.stream)
        update_live(project, *args, **options)

    monkeypatch.setattr("retrainer.live.refresh.update_live", fail_for_news)
    done = retrainer("live")
    assert done.code == 1
    assert "Cannot score the live posts of the timing model of the stream 'news': out of order" in done.err
    assert updated == [NAME]
    assert sum(" timing " in line for line in done.out.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_history_and_show_have_the_live_score(version: str, retrainer: Runner) -> None:
    assert "Live" not in retrainer("history").out
    assert retrainer("history", "--json").json["training_runs"][0]["live_score"] is None
    model = retrainer("live", "timing", "--json").json["models"][0]
    score = model["comparisons"][0]["live"]["overall_score"]
    run = retrainer("history", "--json").json["training_runs"][0]
    assert (run["live_score"], run["num_live_posts"]) == (pytest.approx(score), 40)
    assert "Live" in retrainer("history").out.splitlines()[1]
    assert f"{score:.4f}" in retrainer("history").out
    shown = retrainer("show", version, "--json").json
    assert (shown["live_score"], shown["num_live_posts"]) == (pytest.approx(score), 40)
    assert f"score {score:.4f} on 40 live posts" in retrainer("show", version).out
    (row,) = csv.DictReader(io.StringIO(retrainer("history", "--csv").out))
    assert float(row["live_score"]) == pytest.approx(score)


@pytest.mark.slow
def test_hostile_texts_are_escaped(folder: Path, version: str, retrainer: Runner) -> None:
    assert version
    project = open_project(folder)
    late = regular_posts(3, start=NOW - timedelta(days=300)).assign(post_id=[f"{HOSTILE}{row}" for row in range(3)])
    project.posts.add(late.assign(content=HOSTILE), datetime.now(UTC))
    project.close()
    done = retrainer("live", "timing", "--stream", "owned")
    assert_harmless(done)
    shown = retrainer("live", "timing")
    assert "\x1b" not in shown.out + shown.err
    assert "3 posts arrived late and cannot be scored" in shown.out


@on_each_database
def test_a_dry_run_says_what_the_next_train_would_do(folder: Path, prepare: Prepare, retrainer: Runner) -> None:
    live = prepare(folder, promote_a_bad_version)
    off = retrainer("live", "timing", "--dry-run")
    assert "The next `train` would not roll back: live.rollback is off." in off.out
    on = {"RETRAINER_LIVE__ROLLBACK": "true"}
    done = retrainer("live", "timing", "--dry-run", env=on)
    assert "The next `train` would roll back. On " in done.out, done.err
    found = retrainer("live", "timing", "--dry-run", "--json", env=on).json["models"][0]
    assert (found["next_train"]["outcome"], found["verdict"]) == ("rollback", "worse_than_previous")
    assert retrainer("production", "--json").json["timing_model"]["version_id"] == live, "nothing was done"


def promote_a_bad_version(folder: Path) -> str:
    """Promote a version that is worse than the one it replaces; return it."""
    first = train_timing(folder)
    project = open_project(folder)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    second = str(run.model_version_id)
    project.registry.promote(second, first, "by hand", NOW)
    update_live(project, runtime_of(project), "timing", NOW)
    record_scores(project, "naive", losses(200, 4.0), losses(200, 4.5, seed=2))
    record_scores(project, "previous", losses(200, 6.0), losses(200, 3.0, seed=2), other_version_id=first)
    project.close()
    return second
