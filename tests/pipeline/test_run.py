"""One run: honest scores, promotions by the rules, nothing half-done, everything on record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from retrainer.errors import InsufficientData, ProductionChanged, RunInProgress
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS
from retrainer.evaluation.decision_rule import describe_improvement, meets_threshold
from retrainer.model_types.timing import Timing
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.pipeline.run import dry_run, retrain
from retrainer.pipeline.split import split_by_time
from retrainer.pipeline.tuned_options import TunedOptions
from retrainer.posts.sample import sample_posts
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.plugins_for_tests import Diary, timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retrainer.pipeline.results import RunResult
    from retrainer.project import Project
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins


@pytest.fixture
def constants(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed algorithms: one that is always right on posts five hours apart, and one that is far off."""
    plugins.add("right", timing_algorithm("right", 5.0))
    plugins.add("wrong", timing_algorithm("wrong", 30.0))
    monkeypatch.syspath_prepend(str(plugins.site))


def import_400_posts(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    project.close()


@pytest.fixture
def five_hours(folder: Path, prepare: Prepare) -> Project:
    """A project with 400 posts, five hours apart."""
    prepare(folder, import_400_posts)
    return open_project(folder)


def test_a_run_leads_from_posts_to_production(project: Project) -> None:
    result = retrain(project, runtime_of(project), "timing", NOW)
    assert result.run is not None
    assert result.run.status == "completed"
    assert (result.run.num_training_samples, result.run.num_test_samples) == (320, 80)
    assert result.promoted
    assert result.run.promotion_reason == "First timing model: there is no production version to compare with"
    production = project.registry.get_production("timing")
    assert production is not None
    assert production.version_id == result.run.model_version_id
    assert production.status == "active"
    assert production.promoted_at is not None
    link = project.models_dir / "timing_model"
    assert link.resolve() == version_folder(project, "timing", production.version_id)


def test_a_tuned_run_trains_with_the_tuned_options_and_its_reason_says_so(project: Project) -> None:
    tuned = TunedOptions("baseline", {"window": 5}, "study_timing_1", 30)
    first = retrain(project, runtime_of(project), "timing", NOW - timedelta(days=200), tuned=tuned)
    assert first.run is not None
    version = project.registry.get_version(str(first.run.model_version_id))
    assert version.hyperparameters["window"] == 5
    note = "; options tuned by 30 trials of study 'study_timing_1'"
    assert first.run.promotion_reason == f"First timing model: there is no production version to compare with{note}"
    tuned = replace(tuned, options={"window": 7}, trials=1)
    rejected = dry_run(project, runtime_of(project), "timing", NOW, tuned=tuned)
    assert rejected.decision is not None
    assert not rejected.decision.promote
    assert rejected.decision.reason.endswith("; options tuned by 1 trial of study 'study_timing_1'")
    recorded = retrain(project, runtime_of(project), "timing", NOW, tuned=tuned)
    assert recorded.run is not None
    assert not recorded.promoted
    assert recorded.run.promotion_reason == rejected.decision.reason


def test_the_specified_split_leaves_75_of_373_posts_for_testing() -> None:
    split = split_by_time(regular_posts(373), 0.2, 50, "here")
    assert (split.training_count, split.test_count) == (298, 75)
    assert split.training["created_at"].max() < split.posts["created_at"].iloc[split.training_count]


def test_the_second_run_compares_both_on_the_same_posts(project: Project) -> None:
    first = retrain(project, runtime_of(project), "timing", NOW - timedelta(days=200))
    second = retrain(project, runtime_of(project), "timing", NOW)
    assert first.run
    assert second.run
    assert second.comparison is not None
    assert second.run.compared_with == first.run.model_version_id
    mine = project.registry.list_evaluations(str(second.run.model_version_id), second.run.run_id)
    theirs = project.registry.list_evaluations(str(first.run.model_version_id), second.run.run_id)
    assert mine[0].window == theirs[0].window
    assert mine[0].baseline_metrics == theirs[0].baseline_metrics
    versions = [project.registry.get_version(row.model_version_id) for row in (mine[0], theirs[0])]
    kind = Timing()
    ids = [
        kind.parse(project.artifacts.read_file(version, row.forecasts_file)).post_ids
        for version, row in zip(versions, (mine[0], theirs[0]), strict=True)
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 20


def test_the_recorded_figures_follow_from_the_stored_forecasts(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run is not None
    version = project.registry.get_version(str(run.model_version_id))
    (row,) = project.registry.list_evaluations(version.version_id)
    forecasts, targets, ids, *_ = Timing().parse(project.artifacts.read_file(version, row.forecasts_file))
    again = Timing().score(forecasts, targets)
    assert {key: row.metrics[key] for key in again} == pytest.approx(again)
    assert run.test_mae_hours == pytest.approx(again["mae_hours"])
    assert run.test_within_6h_accuracy == again["within_6h_accuracy"]
    assert run.test_overall_score == pytest.approx(again["overall_score"])
    posts = project.posts.load(NOW).set_index("post_id")["created_at"]
    order = list(posts.index)
    waits = [(posts[one] - posts[order[order.index(one) - 1]]).total_seconds() / 3600 for one in ids]
    assert targets.wait_hours == pytest.approx(np.array(waits))
    assert set(ids) <= set(order[320:]), "only test posts are forecast"


def test_content_is_evaluated_on_posts_with_text_only(project: Project) -> None:
    result = retrain(project, runtime_of(project), "content", NOW)
    assert result.run
    with_text = int(sample_posts()["content"].notna().sum())
    assert (result.run.num_training_samples or 0) + (result.run.num_test_samples or 0) == with_text
    assert result.run.test_mae_hours is None
    assert result.run.test_overall_score is not None


@pytest.mark.usefixtures("constants")
def test_a_better_model_is_promoted_and_the_reason_has_the_scores(five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    better = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert better.promoted
    assert better.run
    assert better.run.promotion_reason == "New model scores 1.0000 against 0 (20 posts)"
    (entry, _first) = five_hours.registry.list_ledger_entries(actions=("promotion",))
    assert entry.automatic
    assert entry.evidence["metrics_b"]["overall_score"] == 1.0
    assert entry.evidence["num_predictions"] == 20


@pytest.mark.slow_on_postgresql
@pytest.mark.usefixtures("constants")
def test_a_bad_model_scores_badly_and_is_not_promoted(five_hours: Project) -> None:
    good = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    bad = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    assert bad.run
    assert bad.run.test_overall_score == pytest.approx(0.0)
    assert not bad.promoted
    assert bad.run.promotion_reason == "New model is 100.0% worse (95% interval -100.0 to -100.0, 20 posts)"
    production = five_hours.registry.get_production("timing")
    assert production
    assert good.run
    assert production.version_id == good.run.model_version_id
    (rejection,) = five_hours.registry.list_ledger_entries(actions=("rejection",))
    assert rejection.version_id == bad.run.model_version_id


@pytest.mark.usefixtures("constants")
def test_an_equal_model_is_not_promoted(five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    equal = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert equal.comparison
    assert equal.comparison.winner is None
    assert not equal.promoted


@pytest.mark.parametrize(
    ("old", "new", "threshold", "enough", "words"),
    [
        (0.6753, 0.7123, 2.0, True, "New model is 5.5% better"),
        (0.50, 0.51, 2.0, True, "New model is 2.0% better"),
        (0.50, 0.504, 2.0, False, "New model is 0.8% better (below 2.0% threshold)"),
        (0.5000, 0.5099, 2.0, False, "New model is 1.98% better (below 2.0% threshold)"),
        (0.5, 0.5, 0.0, False, "New model scores the same"),
        (0.5, 0.50001, 0.0, True, "New model is 0.002% better"),
        (0.5, 0.45, 2.0, False, "New model is 10.0% worse"),
        (0.0, 0.1, 2.0, True, "New model scores 0.1000 against 0"),
        (0.0, 0.0, 2.0, False, "New model scores the same"),
        (0.5, 0.5010, 0.25, False, "New model is 0.2% better (below 0.25% threshold)"),
    ],
)
def test_the_threshold_decides(old: float, new: float, threshold: float, enough: bool, words: str) -> None:
    assert meets_threshold(old, new, threshold) is enough
    assert describe_improvement(old, new, threshold) == words


@pytest.mark.usefixtures("constants")
def test_the_threshold_in_the_settings_decides(folder: Path, five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="baseline")
    five_hours.close()
    configure(folder, min_improvement_threshold="10000")
    project = open_project(folder)
    assert not retrain(project, runtime_of(project), "timing", NOW, algorithm="right").promoted
    project.close()


@pytest.mark.usefixtures("constants")
def test_a_better_model_is_not_promoted_without_auto_promotion(five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    waiting = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right", auto_promote=False)
    assert not waiting.promoted
    assert waiting.run
    assert str(waiting.run.promotion_reason).endswith("but automatic promotion is off")
    version_id = str(waiting.run.model_version_id)
    change = promote_version(five_hours, runtime_of(five_hours), version_id, "reviewed", NOW)
    assert change
    assert change.to_version == version_id
    assert promote_version(five_hours, runtime_of(five_hours), version_id, "again", NOW) is None
    assert five_hours.registry.list_ledger_entries(actions=("promotion",))[0].reason == "reviewed"


@pytest.mark.usefixtures("constants")
def test_a_type_on_hold_is_compared_but_not_promoted(five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    five_hours.registry.hold("timing", "holiday", NOW)
    held = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert not held.promoted
    assert not held.race_lost
    assert held.run
    assert "timing is on hold since 2024-11-15 12:00 UTC" in str(held.run.promotion_reason)
    five_hours.registry.release("timing", "back", NOW)
    assert retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right").promoted


@pytest.mark.usefixtures("constants")
def test_promotion_loses_the_race_when_production_changed(five_hours: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process promotes a version between the comparison and the promotion."""
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    other = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right", auto_promote=False).run
    assert other is not None
    complete = five_hours.registry.complete_run

    def meanwhile(*arguments: object) -> object:
        promote_version(five_hours, runtime_of(five_hours), str(other.model_version_id), "meanwhile", NOW)
        return complete(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(five_hours.registry, "complete_run", meanwhile)
    lost = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert lost.race_lost
    assert not lost.promoted
    assert lost.run
    assert "production changed from 'wrong_timing_" in str(lost.run.promotion_reason)
    production = five_hours.registry.get_production("timing")
    assert production
    assert production.version_id == other.model_version_id


@pytest.mark.usefixtures("constants")
@pytest.mark.parametrize("run", [retrain, dry_run])
def test_a_run_compares_with_the_version_that_went_live_during_its_training(
    five_hours: Project, monkeypatch: pytest.MonkeyPatch, run: Callable[..., RunResult]
) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    other = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right", auto_promote=False).run
    assert other is not None

    def meanwhile(*_: object) -> None:
        promote_version(five_hours, runtime_of(five_hours), str(other.model_version_id), "meanwhile", NOW)

    monkeypatch.setattr("retrainer.pipeline.run.find_warm_start", meanwhile)  # right before the training
    result = run(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert result.decision is not None
    assert not result.decision.promote, result.reason
    assert not result.race_lost


@pytest.mark.usefixtures("constants")
def test_a_promotion_is_published_even_if_the_run_is_interrupted_right_after_it(
    five_hours: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong").run
    assert first is not None
    complete = five_hours.registry.complete_run

    def interrupted(*arguments: object) -> None:
        complete(*arguments)  # type: ignore[arg-type]  # passed on as they came
        raise KeyboardInterrupt

    monkeypatch.setattr(five_hours.registry, "complete_run", interrupted)
    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        retrain(five_hours, runtime_of(five_hours, diary), "timing", NOW, algorithm="right")
    production = five_hours.registry.get_production("timing")
    assert production is not None
    assert production.algorithm == "right"
    promotion, end = diary.events
    assert (promotion["kind"], promotion["version_id"]) == ("promotion", production.version_id)
    assert promotion["from_version_id"] == first.model_version_id
    assert end["run"]["status"] == "completed"
    assert (five_hours.models_dir / "timing_model").resolve().name == production.version_id


@pytest.mark.usefixtures("constants")
def test_only_posts_later_than_both_training_sets_are_compared(five_hours: Project) -> None:
    """Posts that production was trained on are not compared, though the candidate never saw them."""
    late = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right").run
    early = retrain(
        five_hours, runtime_of(five_hours), "timing", NOW - timedelta(days=30), algorithm="right", as_of=True
    )
    assert late
    assert early.run
    comparison = compare_versions(
        five_hours,
        runtime_of(five_hours),
        five_hours.registry.get_version(str(early.run.model_version_id)),
        five_hours.registry.get_version(str(late.model_version_id)),
        NOW,
    )
    assert comparison.window is not None
    assert comparison.window.start > five_hours.registry.get_version(str(late.model_version_id)).trained_through


@pytest.mark.usefixtures("constants")
def test_few_common_posts_are_not_enough_evidence(five_hours: Project) -> None:
    """As of a past date, only a few posts are later than the training posts of production."""
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    trained_through = five_hours.registry.list_versions("timing")[0].trained_through
    moment = trained_through + timedelta(hours=5 * (MIN_COMPARED_POSTS - 1))
    result = retrain(five_hours, runtime_of(five_hours), "timing", moment, algorithm="right", as_of=True)
    assert result.comparison
    assert result.comparison.recommendation == "not_enough_evidence"
    assert result.comparison.reason == "Not enough evidence: only 9 posts could be compared (10 required)"
    assert not result.promoted


@pytest.mark.usefixtures("constants")
def test_without_common_posts_there_is_not_enough_evidence(five_hours: Project) -> None:
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong")
    trained_through = five_hours.registry.list_versions("timing")[0].trained_through
    result = retrain(five_hours, runtime_of(five_hours), "timing", trained_through, algorithm="right", as_of=True)
    assert result.comparison
    assert result.comparison.reason == "Not enough evidence: no post is later than the training of both versions"
    assert result.run
    assert result.run.status == "completed"
    assert not result.promoted


def test_a_run_as_of_the_past_sees_no_later_post(project: Project) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    result = retrain(project, runtime_of(project), "timing", moment, as_of=True)
    assert result.run
    known = int((sample_posts()["created_at"] <= moment).sum())
    assert (result.run.num_training_samples or 0) + (result.run.num_test_samples or 0) == known
    assert result.run.as_of == moment
    version = project.registry.get_version(str(result.run.model_version_id))
    assert version.trained_at - moment < timedelta(hours=1), "as much later as the run took"
    assert version.version_id.startswith("baseline_timing_20240101_00")


def test_a_dry_run_records_nothing(project: Project) -> None:
    before = _files(project)
    result = dry_run(project, runtime_of(project), "timing", NOW)
    assert result.run is None
    assert result.evaluation is not None
    assert result.decision is not None
    assert result.decision.promote
    assert project.registry.list_runs() == []
    assert project.registry.list_versions() == []
    assert _files(project) == before


def _files(project: Project) -> list[Path]:
    """Return the files of the project except the database and the lock file of the models folder."""
    return sorted(path for path in project.folder.rglob("*") if "db" not in path.name and path.name != ".lock")


def test_too_few_posts_fail_the_run_and_leave_nothing_behind(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(35), NOW)
    with pytest.raises(InsufficientData, match="Insufficient data for training: 35 posts"):
        retrain(project, runtime_of(project), "timing", NOW)
    (run,) = project.registry.list_runs()
    assert run.status == "failed"
    assert "Insufficient data for training: 35 posts" in str(run.error)
    assert project.registry.list_versions() == []
    assert [path.name for path in project.models_dir.iterdir()] in ([], [".lock"])
    project.close()


def test_two_runs_of_one_type_do_not_overlap(project: Project) -> None:
    lock = project.registry.start_run("timing", "baseline", NOW, None)
    with pytest.raises(RunInProgress, match="another timing run is in progress since 2024-11-15 12:00:00 UTC on"):
        retrain(project, runtime_of(project), "timing", NOW)
    assert retrain(project, runtime_of(project), "content", NOW).promoted, "the other type is free"
    project.registry.fail_run(lock.run_id, "given up", NOW)
    assert retrain(project, runtime_of(project), "timing", NOW).promoted


def test_a_later_evaluation_uses_newer_posts(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW - timedelta(days=300)).run
    assert run
    evaluation = evaluate_version(project, runtime_of(project), str(run.model_version_id), NOW)
    version = project.registry.get_version(str(run.model_version_id))
    assert evaluation.window.start > version.trained_through
    assert len(project.registry.list_evaluations(version.version_id)) == 2


def test_a_version_without_later_posts_cannot_be_evaluated(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(100), NOW)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    version = project.registry.get_version(str(run.model_version_id))
    with pytest.raises(InsufficientData, match="no post is later than the training data of"):
        evaluate_version(project, runtime_of(project), version.version_id, version.trained_through)
    project.close()


@pytest.mark.slow_on_postgresql
@pytest.mark.usefixtures("constants")
def test_rollback_undoes_the_latest_promotion_and_holds_the_type(five_hours: Project) -> None:
    first = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong").run
    retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right")
    assert first
    change = roll_back(five_hours, runtime_of(five_hours), "timing", "misses", NOW)
    assert change.to_version == first.model_version_id
    production = five_hours.registry.get_production("timing")
    assert production
    assert production.version_id == first.model_version_id
    assert (five_hours.models_dir / "timing_model").resolve().name == first.model_version_id
    assert not retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right").promoted
    demoted = five_hours.registry.get_version(change.from_version or "")
    assert demoted.status == "trained"


@pytest.mark.slow_on_postgresql
@pytest.mark.usefixtures("constants")
def test_a_manual_promotion_loses_the_race_too(five_hours: Project) -> None:
    first = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="wrong").run
    second = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right", auto_promote=False).run
    third = retrain(five_hours, runtime_of(five_hours), "timing", NOW, algorithm="right", auto_promote=False).run
    assert first
    assert second
    assert third
    five_hours.registry.promote(str(second.model_version_id), first.model_version_id, "one", NOW)
    with pytest.raises(ProductionChanged, match="production changed from"):
        five_hours.registry.promote(str(third.model_version_id), first.model_version_id, "other", NOW)


@pytest.mark.slow_on_postgresql
def test_old_versions_are_archived_but_never_production_or_its_predecessor(folder: Path, plugins: Plugins) -> None:
    configure(folder, keep_versions="2")
    project = open_project(folder)
    project.posts.add(regular_posts(200), NOW)
    ids = []
    for hours in range(6):
        run = retrain(project, runtime_of(project), "timing", NOW + timedelta(hours=hours), auto_promote=hours < 1).run
        assert run
        ids.append(str(run.model_version_id))
    promote_version(project, runtime_of(project), ids[1], "older", NOW)
    run = retrain(project, runtime_of(project), "timing", NOW + timedelta(hours=9), auto_promote=False).run
    assert run
    states = {version.version_id: version.status for version in project.registry.list_versions("timing")}
    assert states[ids[1]] == "active"
    assert states[ids[0]] == "trained", "a rollback returns to it"
    assert states[str(run.model_version_id)] == "trained"
    assert [states[version_id] for version_id in ids[2:5]] == ["archived"] * 3
    assert version_folder(project, "timing", ids[2]).exists(), "files of archived versions are kept"
    project.close()


@pytest.mark.slow_on_postgresql
def test_archiving_can_be_switched_off(folder: Path) -> None:
    configure(folder, keep_versions="1", archive_old_versions="false")
    project = open_project(folder)
    project.posts.add(regular_posts(100), NOW)
    for minutes in range(4):
        retrain(project, runtime_of(project), "timing", NOW + timedelta(minutes=minutes))
    assert "archived" not in {version.status for version in project.registry.list_versions("timing")}
    project.close()
