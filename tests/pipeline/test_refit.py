"""A promoted version has two fits: the evaluated one is compared, and the live one knows the latest posts."""

from __future__ import annotations

import logging
import re
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.doctor import examine
from retrainer.errors import AlgorithmError, ArtifactError, DatabaseError, InsufficientData
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.pipeline.recovery import recover
from retrainer.pipeline.results import exit_code
from retrainer.pipeline.retention import prunable, prune, restore
from retrainer.pipeline.run import dry_run, retrain
from retrainer.registry import artifacts
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.pipeline.results import RunResult
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

EARLIER = NOW - timedelta(hours=5 * 100 + 1)  # 300 of 400 posts are known
LEARNING = timing_algorithm(
    "learning",
    "5 + 400 / len(posts)",
    train="""
    if os.environ.get("REFUSED") in {"all", str(len(posts))}:
        raise RuntimeError(f"no fit to {len(posts)} posts")
    """,
    predict="""
    if os.environ.get("SPEECHLESS") == str(round(400 / (model["hours"] - 5))):
        raise RuntimeError("no forecast")
    """,
)
"""Posts come every 5 hours: the more it was trained on, the better it forecasts, and the forecast says how many."""


@pytest.fixture(autouse=True)
def _learning(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("learning", LEARNING)
    monkeypatch.syspath_prepend(str(plugins.site))


def import_posts(folder: Path) -> None:
    configure(folder, algorithm="learning", refit="true", min_improvement_threshold="0")
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    project.close()


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with 400 posts, in which every winner is fitted again."""
    prepare(folder, import_posts)
    return open_project(folder)


def train(project: Project, now: datetime = NOW, *, auto_promote: bool = True) -> RunResult:
    return retrain(project, runtime_of(project), "timing", now, as_of=now != NOW, auto_promote=auto_promote)


def trained_id(result: RunResult) -> str:
    assert result.run is not None
    return str(result.run.model_version_id)


def production(project: Project) -> ModelVersion:
    found = project.registry.get_production("timing")
    assert found is not None
    return found


def posts_behind(wait: float) -> int:
    """Return how many posts a forecast was trained on."""
    return round(400 / (wait - 5))


def known_live(project: Project) -> int:
    """Return how many posts the live fit knows."""
    return posts_behind(predict_next(project, runtime_of(project), "timing", NOW).point_hours or 0.0)


def last_reason(project: Project) -> str:
    return project.registry.list_ledger_entries("timing", limit=1)[0].reason


def test_forecasts_know_the_latest_posts_and_comparisons_do_not(project: Project) -> None:
    first = train(project, EARLIER)
    live = production(project)
    posts = regular_posts(400)
    assert (live.refit_through, live.refit_through_post_id) == (posts["created_at"][299], "p00299")
    assert (live.trained_through_post_id, live.num_training_samples, live.num_refit_samples) == ("p00239", 240, 300)
    assert known_live(project) == 300
    again = "Fitted again on 300 posts through 2024-10-25 11:00 UTC"
    assert last_reason(project).endswith(f"to compare with. {again}")
    assert first.run is not None
    assert first.run.promotion_reason == last_reason(project)

    evaluation = evaluate_version(project, runtime_of(project), live.version_id, NOW)
    assert {posts_behind(wait) for wait in evaluation.forecasts.point} == {240}
    assert evaluation.window.available == 160, "also of posts that the live fit knows"

    second = train(project)
    assert second.promoted
    assert second.comparison is not None
    sides = (second.comparison.evaluation_a, second.comparison.evaluation_b)
    assert [posts_behind(side.forecasts.point[0]) for side in sides if side] == [240, 320]
    assert known_live(project) == 400
    a, b = (project.registry.get_version(name) for name in (live.version_id, trained_id(second)))
    comparison = compare_versions(project, runtime_of(project), a, b, NOW)
    sides = (comparison.evaluation_a, comparison.evaluation_b)
    assert [posts_behind(side.forecasts.point[0]) for side in sides if side] == [240, 320]
    assert examine(project) == []


@pytest.mark.slow
def test_without_the_setting_the_evaluated_fit_is_live(project: Project) -> None:
    reopened = open_project(project.folder, {"RETRAINER_RETRAINING__TIMING_MODEL__REFIT": "false"})
    train(reopened)
    assert production(reopened).refit_through is None
    assert known_live(reopened) == 320


@pytest.mark.slow
def test_a_dry_run_and_a_rejected_version_are_not_fitted_again(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(project)
    assert "again on all" in caplog.text
    caplog.clear()
    dry_run(project, runtime_of(project), "timing", NOW)
    assert not train(project, auto_promote=False).promoted
    assert "again on all" not in caplog.text


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize(("variable", "problem"), [("REFUSED", "no fit to 400 posts"), ("SPEECHLESS", "no forecast")])
def test_a_version_that_cannot_be_fitted_again_is_not_promoted(
    project: Project, variable: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(project, EARLIER)
    before = production(project)
    monkeypatch.setenv(variable, "400")
    result = train(project)
    assert result.run is not None
    assert (result.run.status, result.promoted) == ("completed", False)
    assert ", but it cannot be fitted again on all posts: " in last_reason(project)
    assert problem in last_reason(project)
    assert exit_code([result]) == 1
    assert production(project).version_id == before.version_id
    assert known_live(project) == 300
    assert not list(project.models_dir.rglob(f"{trained_id(result)}/refits"))
    assert not (project.models_dir / ".staging").exists()
    with pytest.raises(AlgorithmError, match=problem):
        promote_version(project, runtime_of(project), trained_id(result), "by hand", NOW)
    assert production(project).version_id == before.version_id
    promote_version(project, runtime_of(project), trained_id(result), "by hand", NOW, refit=False)
    assert known_live(project) == 320
    assert examine(project) == []


@pytest.mark.slow
def test_a_fit_that_loses_the_race_leaves_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    train(project, EARLIER)
    complete = project.registry.complete_run

    def held(*arguments: object, **options: object) -> object:
        project.registry.hold("timing", "holiday", NOW)
        return complete(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(project.registry, "complete_run", held)
    result = train(project)
    assert not result.promoted
    assert "on hold" in last_reason(project)
    assert "itted again" not in last_reason(project)
    assert not list(project.models_dir.rglob(f"{trained_id(result)}/refits"))
    assert not [row for row in project.registry.list_files(trained_id(result)) if "refits" in row.path]
    assert examine(project) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["register_version", "record_evaluation", "complete_run"])
def test_files_that_were_recorded_when_the_connection_was_lost_are_kept(
    method: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_BYTES_IN_DATABASE", 4)  # its files are nowhere else
    record = getattr(project.registry, method)

    def lost(*arguments: object, **named: object) -> None:
        record(*arguments, **named)
        raise DatabaseError("the server closed the connection")

    monkeypatch.setattr(project.registry, method, lost)
    with pytest.raises(DatabaseError):
        train(project)
    recover(project, runtime_of(project))
    (version,) = project.registry.list_versions()
    assert project.artifacts.find_file_problems(version) == {}
    assert method != "complete_run" or known_live(project) == 400
    assert not (project.models_dir / ".staging").exists()
    assert {finding.kind for finding in examine(project)} <= {"wrong_link"}


def test_promoting_by_hand_fits_again_as_of_now_or_leaves_it_as_it_is(project: Project) -> None:
    first = trained_id(train(project, EARLIER, auto_promote=False))
    second = trained_id(train(project, auto_promote=False))
    change = promote_version(project, runtime_of(project), first, "reviewed", NOW)
    assert change is not None
    assert change.reason == last_reason(project)
    assert change.reason == "reviewed. Fitted again on 400 posts through 2024-11-15 07:00 UTC"
    assert (known_live(project), production(project).refit_through_post_id) == (400, "p00399")
    promote_version(project, runtime_of(project), second, "reviewed", NOW, refit=False)
    assert (known_live(project), production(project).refit_through) == (320, None)
    assert last_reason(project) == "reviewed"
    promote_version(project, runtime_of(project), first, "again", NOW, refit=False)
    assert known_live(project) == 400, "it goes live as it was"
    assert promote_version(project, runtime_of(project), first, "once more", NOW) is None


def test_a_rollback_serves_the_fit_that_was_live_then_and_trains_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained_id(train(project, EARLIER))
    second = trained_id(train(project))
    project.posts.add(regular_posts(420, start=regular_posts(400)["created_at"][0]), NOW)
    promote_version(project, runtime_of(project), first, "a second time", NOW + timedelta(days=10))
    assert known_live(project) == 420
    monkeypatch.setenv("REFUSED", "all")
    entries = project.registry.list_ledger_entries("timing", ("promotion",))
    at = [project.registry.get_production_at("timing", entry.recorded_at) for entry in entries]
    assert [version.num_refit_samples for version in at if version] == [420, 400, 300]
    roll_back(project, runtime_of(project), "timing", "back", NOW)
    assert (production(project).version_id, known_live(project)) == (second, 400)
    roll_back(project, runtime_of(project), "timing", "and back", NOW, hold=False)
    assert (production(project).version_id, known_live(project)) == (first, 300)
    assert production(project).refit_through_post_id == "p00299"
    assert examine(project) == []


@pytest.mark.slow
def test_a_rollback_over_several_promotions_serves_the_fit_that_was_live_then(project: Project) -> None:
    first = trained_id(train(project, EARLIER))
    train(project)
    promote_version(project, runtime_of(project), first, "a second time", NOW)
    promote_version(project, runtime_of(project), trained_id(train(project, auto_promote=False)), "newest", NOW)
    roll_back(project, runtime_of(project), "timing", "back", NOW, to=first)
    assert (production(project).version_id, known_live(project)) == (first, 400)


@pytest.mark.slow
def test_a_rollback_to_a_version_without_a_live_fit_serves_the_evaluated_one(project: Project) -> None:
    plain = open_project(project.folder, {"RETRAINER_RETRAINING__REFIT": "false"})
    train(plain, EARLIER)
    train(project)
    assert known_live(project) == 400
    roll_back(project, runtime_of(project), "timing", "back", NOW)
    assert (known_live(project), production(project).refit_through) == (240, None)


@pytest.mark.slow
def test_both_fits_are_restored_from_the_database(project: Project) -> None:
    train(project)
    folder = version_folder(project, "timing", production(project).version_id)
    shutil.rmtree(folder)
    assert known_live(project) == 400
    assert len(examine(project, repair=True)) > 4
    assert sorted(path.name for path in (folder / "refits").rglob("*.json")) == ["manifest.json", "model.json"]
    assert examine(project) == []


def test_a_damaged_live_fit_is_never_loaded_found_and_repaired(project: Project) -> None:
    train(project, EARLIER)
    live = production(project)
    (model,) = version_folder(project, "timing", live.version_id).glob("refits/*/model.json")
    model.write_text(model.read_text().replace("6", "7"))
    with pytest.raises(ArtifactError, match=r"'refits/.*/model\.json' of .* was modified"):
        known_live(project)
    assert evaluate_version(project, runtime_of(project), live.version_id, NOW).forecasts, "the other fit is intact"
    second = trained_id(train(project))
    with pytest.raises(ArtifactError, match="was modified"):
        roll_back(project, runtime_of(project), "timing", "back", NOW)
    assert production(project).version_id == second
    (finding,) = examine(project, repair=True)
    assert (finding.kind, finding.repaired) == ("changed_file", True)
    roll_back(project, runtime_of(project), "timing", "back", NOW)
    assert known_live(project) == 300


@pytest.mark.slow
def test_pruning_deletes_both_fits_and_archiving_keeps_them(project: Project) -> None:
    first = trained_id(train(project, EARLIER))
    second = trained_id(train(project))
    third = trained_id(train(project, auto_promote=False))
    promote_version(project, runtime_of(project), third, "newest", NOW)
    project.registry.archive_old_versions("timing", 1, NOW)
    assert [project.registry.get_version(name).status for name in (first, second)] == ["archived", "trained"]
    assert restore(project, first, "back", NOW)
    project.registry.archive_old_versions("timing", 1, NOW)
    (case,) = prunable(project)
    assert prune(project, [case], NOW) == [first]
    assert not version_folder(project, "timing", first).exists()
    assert all(project.registry.read_file(first, row.path) is None for row in project.registry.list_files(first))
    assert examine(project) == []


@pytest.mark.slow
def test_a_large_live_fit_is_in_the_folder_only(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_BYTES_IN_DATABASE", 4)
    train(project)
    assert known_live(project) == 400
    version_id = production(project).version_id
    paths = [row.path for row in project.registry.list_files(version_id) if row.path.startswith("refits/")]
    in_database = [path.rpartition("/")[2] for path in paths if project.registry.read_file(version_id, path)]
    assert (len(paths), in_database) == (2, ["manifest.json"])


@pytest.mark.slow
def test_a_post_that_only_the_live_fit_knows_counts_as_known(project: Project) -> None:
    train(project)
    late = project.posts.get_post("p00390")
    first = production(project).version_id
    assert [version.version_id for version in project.registry.list_versions_trained_on([late])["p00390"]] == [first]
    other = trained_id(train(project, EARLIER, auto_promote=False))
    promote_version(project, runtime_of(project), other, "try", EARLIER, refit=False)
    promote_version(project, runtime_of(project), first, "back", EARLIER, refit=True)
    assert known_live(project) == 300
    assert [version.version_id for version in project.registry.list_versions_trained_on([late])["p00390"]] == [first], (
        "its former live fit is still stored"
    )


@pytest.mark.slow
def test_there_must_be_posts_to_fit_again(project: Project) -> None:
    first = trained_id(train(project, EARLIER, auto_promote=False))
    with pytest.raises(InsufficientData):
        promote_version(project, runtime_of(project), first, "too early", NOW - timedelta(days=3650))
    assert project.registry.get_production("timing") is None


@pytest.mark.slow
def test_the_commands_show_what_the_live_fit_knows(project: Project, retrainer: Runner) -> None:
    train(project, EARLIER)
    live = production(project)
    project.close()
    document = retrainer("production", "--json", cwd=project.folder).json["timing_model"]
    assert (document["refit_through"], document["refit_through_post_id"]) == ("2024-10-25T11:00:00Z", "p00299")
    shown = retrainer("show", live.version_id, "--json", cwd=project.folder).json
    assert shown["num_refit_samples"] == 300
    assert [entry["refit_through"] for entry in shown["ledger"]] == ["2024-10-25T11:00:00Z"]
    assert "300 posts, the last at 2024-10-25 11:00 UTC" in retrainer("show", live.version_id, cwd=project.folder).out
    assert re.search(r" live +300 ", retrainer("production", cwd=project.folder).out)


@pytest.mark.slow
def test_the_commands_fit_again_or_not_and_say_why_not(project: Project, retrainer: Runner, plugins: Plugins) -> None:
    train(project, EARLIER)
    project.close()
    failed = retrainer("train", "timing", cwd=project.folder, env={**plugins.environ, "REFUSED": "400"})
    assert failed.code == 1
    (error,) = [line for line in failed.err.splitlines() if line.startswith("ERROR: ")]
    assert error.startswith("ERROR: Cannot fit 'learning_timing_")
    assert "no fit to 400 posts" in error
    assert "but it cannot be fitted again on all posts" in failed.out
    promoted = retrainer("promote", "timing@latest", "--no-refit", cwd=project.folder, env=plugins.environ)
    assert promoted.code == 0, promoted.err
    assert retrainer("production", "--json", cwd=project.folder).json["timing_model"]["refit_through"] is None
