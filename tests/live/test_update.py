"""Live scores: those of a replay, whatever happens between two updates."""

from __future__ import annotations

import re
import signal
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from retrainer.backup import back_up, restore_backup
from retrainer.errors import ArtifactError, DamagedValue
from retrainer.evaluation.windows import held_out_window
from retrainer.live import posts as live_posts
from retrainer.live.scores import Totals, load_evidence, read_scores
from retrainer.live.summary import score_versions, summarize_live
from retrainer.live.update import update_comparison, update_live
from retrainer.model_types import get_model_type
from retrainer.pipeline.evaluations import evaluate_model
from retrainer.pipeline.loading import load_live_fit
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.split import load_posts
from retrainer.posts.importer import import_records
from retrainer.posts.sample import sample_posts
from retrainer.project import Project
from retrainer.registry.live import append_live_scores, find_scored_streams, mark_posts_changed
from retrainer.registry.live_tables import LiveComparison, LiveScore
from retrainer.registry.tables import ModelVersion
from retrainer.replay.runner import replay
from tests.conftest import NOW, configure, import_sample, open_project, runtime_of, version_folder
from tests.live.updating import START, scores_of, train_as_of, updated
from tests.plugins_for_tests import Plugins, timing_algorithm
from tests.posts.test_plans import check, plans
from tests.worker import Worker, release

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.live import PostScore

LATER = datetime(2024, 9, 1, tzinfo=UTC)

pytestmark = pytest.mark.slow_on_postgresql


@dataclass(frozen=True)
class Kept:
    """What the database has about a comparison: its scores and what they add up to."""

    scores: list[PostScore]
    through: tuple[datetime | None, str | None]
    totals: dict[str, Any]


def kept(project: Project, comparison: LiveComparison) -> Kept:
    """Read a comparison, and check that its totals are those of its scores."""
    found = project.registry.get_live_comparison(comparison.comparison_id)
    assert found.rescore_from is None
    totals = Totals.of(found).columns()
    assert totals == Totals.read(project.registry, found).columns()
    return Kept(scores_of(project, found), (found.through, found.through_post_id), totals)


def naive_model(project: Project, comparison: LiveComparison) -> bytes | None:
    """Return the naive forecast that is kept with a comparison."""
    return project.registry.get_naive_model(comparison.comparison_id)


def from_scratch(project: Project, comparison: LiveComparison, now: datetime = NOW) -> Kept:
    """Make all scores of the production version's comparisons again."""
    with project.registry.database.write() as session:
        mark_posts_changed(session.connection(), project.stream, comparison.starts_after, ["timing", "content"])
    updated(project, comparison.model_type_name, now)
    return kept(project, comparison)


def add(project: Project, post_id: str, time: datetime, text: str = "a text", *, update: bool = False) -> None:
    """Import a post."""
    record = {"id": post_id, "created_at": time.isoformat(), "text": text}
    now = max(NOW, time)
    import_records(project.posts, [record], None, name="here", stream=project.stream, now=now, update=update)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "refit", "database"),
    [("timing", "false", "sqlite"), ("timing", "true", "postgresql"), ("content", "false", "sqlite")],
)
def test_scores_are_those_of_a_replay_to_the_last_digit(
    sqlite_folder: Path, model_type: ModelTypeName, refit: str, database: str, request: pytest.FixtureRequest
) -> None:
    folder, end = sqlite_folder, datetime(2024, 10, 1, tzinfo=UTC)
    configure(folder, refit=refit)
    if database == "postgresql":
        configure(folder, url=f'"{request.getfixturevalue("postgresql_url")}"')
    import_sample(folder)
    train_as_of(folder, model_type)
    project = open_project(folder)
    naive = updated(project, model_type, end)["naive"]
    scores = scores_of(project, naive)
    assert len(scores) == naive.num_scored > 30

    report = replay(project, runtime_of(project), model_type, NOW, START, end)
    steps = report.policy("never").steps
    definition = get_model_type(model_type)
    count = len(definition.component_names)
    figures = np.array([score.figures[:count] for score in scores])
    assert figures.tolist() == [row for step in steps for row in step.figures]
    first = [score.other_figures[:count] for score in scores[: len(steps[0].rows)]]  # later steps fit the naive again
    assert first == steps[0].naive_figures
    assert definition.overall_score(np.array(naive.sums[:count]) / naive.num_scored) == (
        definition.overall_score(np.array([row for step in steps for row in step.figures]).mean(axis=0))
    )
    if refit == "true":
        assert naive.fit == f"{naive.version_id}/{(naive.refit or {})['refit_id']}"


@pytest.mark.slow
def test_scores_of_prophet_are_those_of_an_evaluation_to_the_last_digit(sqlite_folder: Path) -> None:
    configure(sqlite_folder)
    settings = sqlite_folder / "config" / "config.yaml"
    settings.write_text(settings.read_text().replace("algorithm: baseline ", "algorithm: prophet ", 1))
    import_sample(sqlite_folder)
    version_id = train_as_of(sqlite_folder)
    assert version_id.startswith("prophet_")
    project = open_project(sqlite_folder)
    for now in (LATER, LATER + timedelta(days=40), NOW):
        naive = updated(project, now=now)["naive"]
    runtime, posts = runtime_of(project), load_posts(project, "timing", NOW)
    window = held_out_window(posts, (START, "~"), len(posts))
    assert window
    model = load_live_fit(project, runtime, project.registry.get_version(version_id))
    with runtime.open_budget() as budget:
        evaluation = evaluate_model(runtime, model, posts, window, budget)
    scores = scores_of(project, naive)
    assert [score.post_id for score in scores] == evaluation.post_ids
    assert [score.figures[:2] for score in scores] == evaluation.contributions_on(evaluation.scored).tolist()
    naive_scores = get_model_type("timing").score_components(evaluation.naive_forecasts, evaluation.targets)
    assert [score.other_figures[:2] for score in scores] == naive_scores.tolist()


@pytest.mark.parametrize("origin", ["post", pytest.param("clock", marks=pytest.mark.slow)])
def test_some_posts_at_a_time_give_the_same_as_all_at_once(live_folder: Path, origin: str) -> None:
    configure(live_folder, origin=origin)
    project = open_project(live_folder)
    times = [time.to_pydatetime() for time in project.posts.load(NOW)["created_at"] if time > START]
    (naive,) = updated(project, now=times[0] - timedelta(seconds=1)).values()
    assert (naive.num_scored, naive.through) == (0, None)
    for count in (1, 2, 3, 10, 11, len(times)):
        comparison = updated(project, now=times[count - 1])["naive"]
        assert comparison.through == times[count - 1]
        assert comparison.num_scored == count or origin == "clock"
    incremental = kept(project, naive)
    assert incremental == from_scratch(project, naive)
    assert len(incremental.scores) == len(times) or origin == "clock"


def test_by_the_clock_a_gap_is_scored_from_its_first_origin(live_folder: Path) -> None:
    configure(live_folder, origin="clock")
    project = open_project(live_folder)
    naive = updated(project)["naive"]
    posts = project.posts.load(NOW, with_content=False)
    known = posts[posts["created_at"] <= START]["created_at"]
    spacing = (known.iloc[-1] - known.iloc[0]) / (len(known) - 1)
    assert naive.spacing_hours == pytest.approx(spacing / pd.Timedelta(hours=1))
    origins = [naive.starts_after + spacing * number for number in range(1, 1000)]
    after = [int(posts["created_at"].searchsorted(pd.Timestamp(at), side="right")) for at in origins]
    expected: dict[str, float] = {}
    for at, row in zip(origins, after, strict=True):
        if row < len(posts):
            wait = (posts["created_at"].iloc[row] - at) / pd.Timedelta(hours=1)
            expected.setdefault(str(posts["post_id"].iloc[row]), wait)
    scores = scores_of(project, naive)
    assert [score.post_id for score in scores] == list(expected)
    assert len(scores) < 43  # some gaps are shorter than the spacing


@pytest.mark.parametrize(
    "change",
    [
        "late",
        pytest.param("deleted", marks=pytest.mark.slow),
        pytest.param("moved", marks=pytest.mark.slow),
        pytest.param("earlier than the start", marks=pytest.mark.slow),
        pytest.param("edited", marks=pytest.mark.slow),
    ],
)
def test_changes_of_posts_change_the_scores_that_they_affect(live_project: Project, change: str) -> None:
    project = live_project
    before = kept(project, updated(project)["naive"])
    post = before.scores[20]
    middle = post.created_at - timedelta(minutes=5)
    match change:
        case "late":
            add(project, "late", middle)
        case "deleted":
            project.posts.delete([post.post_id])
        case "moved":
            add(project, post.post_id, post.created_at + timedelta(days=10), update=True)
        case "earlier than the start":
            add(project, "early", START - timedelta(minutes=1))
        case "edited":
            add(project, post.post_id, post.created_at, "another text", update=True)
    comparison = updated(project)["naive"]
    after = kept(project, comparison)
    assert after == from_scratch(project, comparison)
    ids = [score.post_id for score in after.scores]
    same = next((row for row, (a, b) in enumerate(zip(before.scores, after.scores, strict=False)) if a != b), None)
    assert {
        "late": ("late" in ids, same) == (True, 20),
        "deleted": (post.post_id in ids, same) == (False, 20),
        "moved": (len(ids), same) == (len(before.scores), 20),
        "earlier than the start": ("early" in ids, same) == (False, 0),  # its successor's wait is shorter
        "edited": after == before,  # timing knows no texts
    }[change]


@pytest.mark.parametrize("origin", ["clock", pytest.param("post", marks=pytest.mark.slow)])
def test_a_late_post_at_the_start_counts_the_same_whenever_it_arrives(live_folder: Path, origin: str) -> None:
    """The naive forecast, and the times of origins, are fitted to the posts up to the start."""
    configure(live_folder, origin=origin)
    project = open_project(live_folder)
    start = updated(project)["naive"].starts_after
    add(project, "late", start)
    add(project, "later", start - timedelta(days=3))
    comparison = updated(project)["naive"]
    found = comparison.spacing_hours, naive_model(project, comparison), kept(project, comparison)
    with project.registry.database.write() as session:
        session.execute(sa.delete(LiveScore))
        session.execute(sa.delete(LiveComparison))
    comparison = updated(project)["naive"]
    assert found == (comparison.spacing_hours, naive_model(project, comparison), kept(project, comparison))


def test_totals_of_scores_that_another_process_made_again_are_not_written(live_project: Project) -> None:
    project = live_project
    stale = updated(project)["naive"]
    add(project, "late", scores_of(project, stale)[20].created_at - timedelta(minutes=5))
    comparison = updated(project)["naive"]
    assert (comparison.through, comparison.through_post_id) == (stale.through, stale.through_post_id)
    with project.registry.database.write() as session:
        assert not append_live_scores(session, stale, [], Totals.of(stale).columns())
    assert kept(project, comparison).totals == Totals.of(comparison).columns()


@pytest.mark.parametrize("change", ["edited", pytest.param("emptied", marks=pytest.mark.slow)])
def test_an_edited_text_changes_the_scores_of_content(content_project: Project, change: str) -> None:
    project = content_project
    before = kept(project, updated(project, "content")["naive"])
    post = before.scores[10]
    with project.registry.database.write() as session:
        text = "quite another text" if change == "edited" else " "
        query = sa.text("UPDATE posts SET content = :text WHERE post_id = :id")
        session.execute(query, {"text": text, "id": post.post_id})
        mark_posts_changed(session.connection(), "default", post.created_at, ["content"])
    comparison = updated(project, "content")["naive"]
    after = kept(project, comparison)
    assert after.scores[:10] == before.scores[:10]
    assert (after.scores[10] == before.scores[10], len(after.scores)) == (
        False,
        len(before.scores) - (change == "emptied"),
    )
    assert after == from_scratch(project, comparison)


@pytest.mark.slow
def test_an_import_that_edits_a_text_marks_content_only(content_project: Project) -> None:
    project = content_project
    train_as_of(project.folder)
    content, timing = updated(project, "content")["naive"], updated(project)["naive"]
    post = scores_of(project, content)[5]
    add(project, post.post_id, post.created_at, "edited by its author", update=True)
    marked = [project.registry.get_live_comparison(one.comparison_id).rescore_from for one in (content, timing)]
    assert marked == [post.created_at, None]


def test_a_post_that_moved_after_training_on_it_is_left_out(live_project: Project) -> None:
    project = live_project
    posts = project.posts.load(START)
    known, count = str(posts["post_id"].iloc[-3]), updated(project)["naive"].num_scored
    add(project, known, LATER, update=True)
    comparison = updated(project)["naive"]
    assert known not in [score.post_id for score in scores_of(project, comparison)]
    assert comparison.num_scored == count
    assert kept(project, comparison) == from_scratch(project, comparison)


def test_as_of_a_past_time_the_evidence_is_that_of_the_posts_up_to_it(live_project: Project) -> None:
    project = live_project
    at_the_time = updated(project, now=LATER)["naive"]
    then = Totals.of(at_the_time).columns(), at_the_time.through
    now = kept(project, updated(project)["naive"])
    again = updated(project, now=LATER)["naive"]  # also what a clock that was set back sees
    assert (Totals.of(again).columns(), again.through) == then
    assert load_evidence(again).count == again.num_scored < len(now.scores)
    assert kept(project, again) == now
    (early,) = updated(project, now=START).values()
    assert (early.num_scored, early.through, load_evidence(early).worse) == (0, None, 1)


@pytest.mark.slow
def test_posts_of_the_future_wait(live_project: Project) -> None:
    updated(live_project)
    add(live_project, "future", NOW + timedelta(days=1))
    comparison = updated(live_project)["naive"]
    assert "future" not in [score.post_id for score in scores_of(live_project, comparison)]
    comparison = updated(live_project, now=NOW + timedelta(days=2))["naive"]
    assert scores_of(live_project, comparison)[-1].post_id == "future"


@pytest.mark.slow
def test_comparisons_begin_after_what_both_sides_know_and_go_on_where_they_ended(live_project: Project) -> None:
    project = live_project
    first = project.registry.get_production("timing")
    assert first
    (naive,) = updated(project).values()
    second = train_as_of(project.folder, at=LATER)
    found = updated(project)
    assert [*found] == ["naive", "previous"]
    previous = found["previous"]
    assert (previous.fit, previous.other_fit, previous.starts_after) == (second, first.version_id, LATER)
    assert scores_of(project, previous)[0].created_at > LATER
    assert previous.num_scored == found["naive"].num_scored < naive.num_scored
    current = project.registry.across(None).list_current_live_comparisons()
    assert {one.comparison_id for one in current} == {one.comparison_id for one in found.values()}

    promote_version(project, runtime_of(project), first.version_id, "by hand", NOW)
    assert updated(project)["naive"].comparison_id == naive.comparison_id
    unasked = project.registry.get_version(second)
    again = update_comparison(project, runtime_of(project), unasked, NOW)
    assert again
    assert again.comparison_id == found["naive"].comparison_id


@pytest.mark.slow
def test_the_comparison_used_last_is_current(live_project: Project) -> None:
    """Also if it is an older one that goes on: after a change of the settings and back."""
    project = live_project
    post = updated(project)["naive"]
    configure(project.folder, origin="clock")
    clock = updated(open_project(project.folder))["naive"]
    assert clock.comparison_id != post.comparison_id
    assert [one.comparison_id for one in project.registry.list_current_live_comparisons()] == [clock.comparison_id]
    configure(project.folder, origin="post")
    again = updated(open_project(project.folder))["naive"]
    assert again.comparison_id == post.comparison_id
    assert [one.comparison_id for one in project.registry.list_current_live_comparisons()] == [post.comparison_id]
    assert kept(project, again).totals == Totals.of(post).columns()


@pytest.mark.slow
def test_the_naive_forecast_is_kept_of_the_current_comparison_alone_and_fitted_again(live_project: Project) -> None:
    project = live_project
    first = updated(project, now=LATER)["naive"]
    model = naive_model(project, first)
    assert model
    train_as_of(project.folder, at=LATER)
    second = updated(project)["naive"]
    assert naive_model(project, second)
    assert naive_model(project, first) is None
    promote_version(project, runtime_of(project), first.version_id, "by hand", NOW)
    again = updated(project)["naive"]
    assert again.comparison_id == first.comparison_id
    assert again.num_scored > first.num_scored
    assert naive_model(project, first) == model
    assert kept(project, again) == from_scratch(project, again)
    found = project.registry.list_live_comparisons("timing", first.fit)
    assert not any("naive_model" in vars(one) for one in found), "it is large, and only read to forecast with it"


@pytest.mark.slow
def test_current_comparisons_are_looked_up_from_the_versions_in_production(live_project: Project) -> None:
    project = live_project
    updated(project)
    versions, comparisons = ModelVersion.__table__, LiveComparison.__table__
    with project.registry.database.write() as session:
        version = dict(session.execute(sa.select(versions)).mappings().one())
        comparison = dict(session.execute(sa.select(comparisons)).mappings().one())
        del comparison["comparison_id"]
        new = [{"stream": f"stream {row % 10}", "version_id": f"version {row}"} for row in range(3000)]
        retired = {**version, "is_production": False, "status": "archived"}
        session.execute(
            sa.insert(ModelVersion), [{**(version if row < 10 else retired), **one} for row, one in enumerate(new)]
        )
        session.execute(sa.insert(LiveComparison), [{**comparison, **one, "fit": one["version_id"]} for one in new])
        if session.connection().dialect.name == "postgresql":
            session.execute(sa.text("ANALYZE"))
    with plans(project.registry.database.engine, "retrainer_live_comparisons") as found:
        current = project.registry.across(None).list_current_live_comparisons()
        with project.registry.database.write() as session:
            assert [*find_scored_streams(session.connection(), ["stream 7", "unknown"])] == ["stream 7"]
    assert len(current) == 11
    check("find_scored_streams", [plan for plan in found if "JOIN" not in plan], "retrainer_live_comparisons", "stream")
    (plan,) = [plan for plan in found if "JOIN" in plan]
    assert "uq_retrainer_model_versions_production" in plan
    assert not re.search("Seq Scan on retrainer_live|SCAN retrainer_live", plan), plan


def test_a_side_that_cannot_be_loaded_stops_only_its_comparison(
    live_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project = live_project
    first = project.registry.get_production("timing")
    assert first
    train_as_of(project.folder, at=LATER)
    (version_folder(project, "timing", first.version_id) / "model.json").write_text("{}")
    caplog.clear()
    caplog.set_level("INFO", "retrainer")
    assert [*updated(project)] == ["naive"]
    (record,) = [record for record in caplog.records if "Cannot score" in record.message]
    assert record.levelname == "INFO", "a warning would be a mail of cron at each `train`"
    assert f"beside '{first.version_id}' on live posts" in record.message
    with pytest.raises(ArtifactError):
        update_comparison(project, runtime_of(project), first, NOW)


@pytest.mark.parametrize(
    "damage",
    [
        {"state": b"of another release"},
        {"num_scored": -1},
        {"num_scored": 1_000_000},
        {"sums": []},
        {"sums": [1, 2, 3, None, 5]},
        {"other_sums": [1, 2, 3, "many", 5]},
        {"other_sums": {"sum": 1}},
    ],
)
def test_sums_that_are_damaged_are_an_error_and_added_up_again(live_project: Project, damage: dict[str, Any]) -> None:
    project = live_project
    comparison = updated(project)["naive"]
    before = kept(project, comparison)
    with project.registry.database.write() as session:
        session.execute(sa.update(LiveComparison).values(damage))
    found, damaged = summarize_live(project.registry)
    assert not found
    assert re.match(r"the sums of the live scores of .* Run `retrainer live timing` to add", str(*damaged.values()))
    assert updated(project)["naive"].state == comparison.state
    assert kept(project, comparison) == before


def test_a_state_of_another_release_does_not_hide_the_scores_of_versions(live_project: Project) -> None:
    project = live_project
    updated(project)
    versions = [version.version_id for version in project.registry.list_versions()]
    before = score_versions(project.registry.list_scored_versions(versions))
    assert before
    with project.registry.database.write() as session:
        session.execute(sa.update(LiveComparison).values(state=b"of another release", is_current=False))
    assert score_versions(project.registry.list_scored_versions(versions)) == before
    with pytest.raises(DamagedValue, match="restore a backup"):
        load_evidence(project.registry.list_scored_versions(versions)[0])


def test_damaged_scores_of_one_version_do_not_hide_those_of_others(
    live_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project = live_project
    first = updated(project)["naive"]
    train_as_of(project.folder, at=LATER)
    second = updated(project)["naive"]
    versions = [first.version_id, second.version_id]
    before = score_versions(project.registry.list_scored_versions(versions))
    assert before.keys() == set(versions)
    with project.registry.database.write() as session:
        damaged = sa.update(LiveComparison).where(LiveComparison.comparison_id == first.comparison_id)
        session.execute(damaged.values(sums=[]))
    found = score_versions(project.registry.list_scored_versions(versions))
    assert found == {second.version_id: before[second.version_id]}
    assert f"Cannot show the live scores of '{first.version_id}': the sums of" in caplog.text


@pytest.mark.parametrize(
    ("column", "value"), [("loss", "much"), ("figures", "[1, 2, 3, NaN, 5]"), ("figures", "{}"), ("figures", "[null]")]
)
@pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # PostgreSQL refuses most of them
def test_a_damaged_score_is_an_error(live_project: Project, column: str, value: str) -> None:
    project = live_project
    comparison = updated(project)["naive"]
    with project.registry.database.write() as session:
        session.execute(sa.text(f"UPDATE retrainer_live_scores SET {column} = '{value}'"))
    with pytest.raises(DamagedValue, match=r"^the database holds '.*' instead of a (list of )?number"):
        scores_of(project, comparison)


@pytest.mark.slow
def test_streams_have_scores_of_their_own(live_project: Project) -> None:
    project = live_project
    other = project.for_stream("other")
    other.posts.add(sample_posts().iloc[:380], NOW)
    from retrainer.pipeline.run import retrain

    retrain(other, runtime_of(other), "timing", START, as_of=True)
    mine, theirs = updated(project)["naive"], updated(other)["naive"]
    assert (mine.stream, theirs.stream) == ("default", "other")
    assert (mine.num_scored, theirs.num_scored) == (43, 23)
    add(other, "late", LATER)
    assert project.registry.get_live_comparison(mine.comparison_id).rescore_from is None
    assert updated(other)["naive"].num_scored == 24
    assert kept(other, theirs) == from_scratch(other, theirs)
    current = [
        one
        for one in project.registry.across(["default", "other"]).list_current_live_comparisons()
        if one.against == "naive"
    ]
    assert [one.stream for one in current] == ["default", "other"]


@pytest.mark.slow
def test_changes_of_a_foreign_table_are_noticed(sqlite_folder: Path) -> None:
    path = sqlite_folder / "foreign.db"
    rows = sample_posts()[["post_id", "created_at", "content"]].astype(str).to_numpy().tolist()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE toots (post_id TEXT, created_at TEXT, content TEXT)")
        connection.executemany("INSERT INTO toots VALUES (?, ?, ?)", rows)
    settings = (sqlite_folder / "config" / "config.yaml").read_text()
    head, tail = settings.split("posts:\n", 1)
    tail = tail.replace("url: null", f"url: sqlite:///{path}", 1).replace("table: posts", "table: toots", 1)
    (sqlite_folder / "config" / "config.yaml").write_text(f"{head}posts:\n{tail}")
    train_as_of(sqlite_folder)
    project = open_project(sqlite_folder)
    before = kept(project, updated(project)["naive"])
    assert len(before.scores) == 43
    post = before.scores[20]
    for number, statement in enumerate(
        (
            f"DELETE FROM toots WHERE post_id = '{post.post_id}'",
            f"INSERT INTO toots VALUES ('late', '{post.created_at.isoformat()}', 'late')",
            f"UPDATE toots SET created_at = '{LATER.isoformat()}' WHERE post_id = 'late'",
        )
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        comparison = updated(project)["naive"]
        after = kept(project, comparison)
        assert len(after.scores) == 42 + (number > 0)
        assert after.scores != before.scores
        with project.registry.database.write() as session:
            session.execute(sa.update(LiveComparison).values(rescore_from=START))
        updated(project)
        assert kept(project, comparison) == after
        before = after


@pytest.mark.slow
def test_a_post_that_arrives_while_another_is_scored_is_not_missed(
    folder_on_each_database: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The algorithm imports a post while it forecasts: an early one, a late one, one that is later than all scored."""
    folder = folder_on_each_database
    interfere = """
        script = os.environ.pop("INTERFERE", None) if posts["created_at"].iloc[-1].month >= 8 else None
        if script:
            exec(script)
    """
    plugins.add("busy", timing_algorithm("busy", setup="import os", predict=interfere))
    configure(folder, algorithm="busy")
    monkeypatch.syspath_prepend(str(plugins.site))
    import_sample(folder)
    train_as_of(folder)
    project = open_project(folder)
    days = timedelta(days=1)
    early, late = START - timedelta(minutes=1), LATER - days
    for time, now in ((early, LATER), (late, LATER + 20 * days), (LATER + 30 * days, NOW)):
        monkeypatch.setenv(
            "INTERFERE",
            "from pathlib import Path; from datetime import datetime; from tests.live.test_update import interrupt;"
            f"interrupt(Path({str(folder)!r}), datetime.fromisoformat({time.isoformat()!r}))",
        )
        comparison = updated(project, now=now)["naive"]
        assert (f"late {time:%m%d}" in [score.post_id for score in scores_of(project, comparison)]) == (time > START)
        assert kept(project, comparison) == from_scratch(project, comparison, now)


def interrupt(folder: Path, time: datetime) -> None:
    """Import a post; called by the algorithm of a test."""
    add(open_project(folder), f"late {time:%m%d}", time)


def update_in_small_batches(folder: Path, kill_after: int | None = None) -> None:
    """Update in transactions of three posts; optionally, end like a killed process in the middle of one of them."""
    import os
    from importlib import import_module

    module: Any = import_module("retrainer.live.update")

    live_posts.BATCH_POSTS = 3
    calls = 0

    def append(*arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        done: bool = append_live_scores(*arguments)
        if calls == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    module.append_live_scores = append
    project = Project.find(folder, {})
    update_live(project, runtime_of(project), "timing", NOW)
    project.close()


@pytest.mark.slow
def test_two_processes_at_once_make_the_same_scores_as_one(live_folder: Path, tmp_path: Path) -> None:
    workers = [Worker.start(tmp_path, update_in_small_batches, live_folder) for _ in range(2)]
    release(workers)
    assert [worker.finish() for worker in workers] == [0, 0], workers[0].err + workers[1].err
    project = open_project(live_folder)
    comparison = updated(project)["naive"]
    found = kept(project, comparison)
    assert len(found.scores) == 43
    assert found == from_scratch(project, comparison)


@pytest.mark.slow
def test_an_update_that_is_killed_leaves_nothing_half_written(live_folder: Path, tmp_path: Path) -> None:
    project = open_project(live_folder)
    for kill_after in (1, 5):
        worker = Worker.start(tmp_path, update_in_small_batches, live_folder, kill_after)
        release([worker])
        assert worker.finish() == -signal.SIGKILL
        (comparison,) = project.registry.list_live_comparisons("timing")
        assert len(kept(project, comparison).scores) == 3 * (kill_after - 1)
    assert kept(project, updated(project)["naive"]) == from_scratch(project, comparison)


@pytest.mark.slow
def test_a_restored_backup_has_the_scores_of_the_posts_that_are_there(live_project: Project, tmp_path: Path) -> None:
    project = live_project
    before = kept(project, updated(project)["naive"])
    back_up(project, tmp_path / "backup.db", NOW)
    add(project, "later than the backup", LATER)
    restore_backup(project, tmp_path / "backup.db", replace=True)
    comparison = updated(project)["naive"]
    after = kept(project, comparison)
    assert len(after.scores) == len(before.scores) + 1
    assert after == from_scratch(project, comparison)


def test_scores_are_read_in_order_and_in_parts(live_project: Project) -> None:
    naive = updated(live_project)["naive"]
    (scores,) = read_scores(live_project.registry, naive.comparison_id)
    rows = scores_of(live_project, naive)
    assert scores.post_ids == [row.post_id for row in rows]
    assert scores.figures.tolist() == [row.figures for row in rows]
    assert scores.stakes.most.tolist() == [row.most for row in rows]
    parts = list(live_project.registry.stream_live_scores(naive.comparison_id, until=LATER, chunk_rows=7))
    assert [row for part in parts for row in part] == [row for row in rows if row.created_at <= LATER]
    assert {len(part) for part in parts[:-1]} == {7}
