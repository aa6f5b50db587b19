"""An A/B test is decided by the posts that come, once, and production changes only with its end."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from retrainer.errors import ABTestError, DamagedValue, NothingInProduction, PromotionRefused, UnknownName, UsageError
from retrainer.evaluation.sequential import Interval
from retrainer.live.ab_tests import check_test, choose_outcome, decide_test, describe_interval, start_test, stop_test
from retrainer.live.update import update_live
from retrainer.notify.messages import message_of
from retrainer.pipeline.forecast import choose_version, predict_next
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.pipeline.retention import archive_old_versions, prunable, prune
from retrainer.pipeline.run import retrain
from retrainer.registry.ab_tests import assign
from retrainer.registry.live_tables import ABTest
from retrainer.registry.queries import fetch_version
from tests.conftest import NOW, configure, open_project, runtime_of
from tests.live.ab_project import Versions, add_algorithms, add_posts, binomial_range, train_versions
from tests.plugins_for_tests import Diary

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.live.ab_tests import ABTestState
    from retrainer.project import Project
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

HOSTILE = ["", "a\nb", "a\0b", "x" * 10_000, "\ud800", "'; DROP TABLE posts; --", "\u202e\x1b[31m"]


@pytest.fixture(autouse=True)
def _algorithms(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    add_algorithms(plugins)
    monkeypatch.syspath_prepend(str(plugins.site))


@pytest.fixture
def versions(folder_on_each_database: Path, prepare: Prepare) -> Versions:
    """The versions of the project."""
    return prepare(folder_on_each_database, train_versions)


@pytest.fixture
def project(folder_on_each_database: Path, versions: Versions) -> Project:
    """The project, whose timing production is of `far`."""
    return open_project(folder_on_each_database)


def start(project: Project, challenger: str, now: datetime = NOW, **options: Any) -> ABTestState:
    return start_test(project, runtime_of(project), "timing", challenger, "try it", now, **options)


def look(project: Project, now: datetime) -> ABTestState:
    state = check_test(project, runtime_of(project), "timing", now)
    assert state is not None
    return state


def production(project: Project) -> str:
    version = project.registry.get_production("timing")
    assert version is not None
    return version.version_id


def ledger(project: Project) -> list[tuple[str, str | None, bool]]:
    """Return the decisions since the versions were trained, oldest first."""
    entries = project.registry.list_ledger_entries("timing")[::-1][4:]
    return [(entry.action, entry.version_id, entry.automatic) for entry in entries]


def test_a_challenger_that_is_shown_to_be_better_goes_live(project: Project, versions: Versions) -> None:
    started = start(project, versions.near)
    assert (started.num_posts, started.problem) == (0, None)
    assert started.sentence == "No live post has been scored yet."
    last = add_posts(project, 4)
    early = look(project, last)
    assert (early.test.status, early.num_posts) == ("running", 4)
    assert 1 < early.evidence_for_challenger < early.threshold == 40
    assert (early.challenger_score or 0) > (early.score or 1)
    assert early.sentence == "It is too early to say which is better."
    assert production(project) == versions.production

    last = add_posts(project, 20, after=last)
    done = look(project, last)
    assert (done.test.status, done.test.outcome, done.num_posts) == ("ended", "promoted", 24)
    assert production(project) == versions.near
    assert ledger(project) == [
        ("ab_start", versions.near, False),
        ("promotion", versions.near, True),
        ("ab_end", versions.near, True),
    ]
    end, promotion = project.registry.list_ledger_entries("timing", limit=2)
    for entry in (end, promotion):
        assert entry.evidence["test_id"] == done.test.test_id
        assert entry.evidence["num_posts"] == 24
        assert entry.evidence["evidence_for_challenger"] >= 40
        assert entry.reason.startswith("The challenger won the A/B test on 24 live posts (E > 10,000): its error is ")
    assert (promotion.from_version_id, promotion.to_version_id) == (versions.production, versions.near)
    assert look(project, last).num_posts == 24, "the next look changes nothing"
    assert len(ledger(project)) == 3
    roll_back(project, runtime_of(project), "timing", "second thoughts", last)
    assert production(project) == versions.production


@pytest.mark.slow_on_postgresql
def test_a_challenger_that_is_shown_to_be_worse_does_not(project: Project, versions: Versions) -> None:
    start(project, versions.farther)
    done = look(project, add_posts(project, 30))
    assert done.test.outcome == "kept"
    assert " larger" in str(done.test.reason)
    assert production(project) == versions.production
    assert ledger(project)[1:] == [("ab_end", versions.farther, True)]


@pytest.mark.slow_on_postgresql
def test_a_challenger_that_cannot_be_better_ends_the_test_as_futile(project: Project, versions: Versions) -> None:
    start(project, versions.far, max_posts=12)
    last = add_posts(project, 11)
    assert look(project, last).test.status == "running"
    done = look(project, add_posts(project, 1, after=last))
    assert (done.test.outcome, production(project)) == ("futile", versions.production)
    assert "12 live posts" in str(done.test.reason)
    assert start(project, versions.near, NOW + timedelta(days=9)).test.status == "running", "another one may start"


@pytest.mark.slow_on_postgresql
def test_the_end_of_a_test_is_an_event_and_a_message(project: Project, versions: Versions) -> None:
    diary = Diary()
    start(project, versions.near)
    check_test(project, runtime_of(project, diary), "timing", add_posts(project, 30))
    promotion, end = diary.events
    assert (promotion["kind"], promotion["version_id"]) == ("promotion", versions.near)
    assert (end["kind"], end["version_id"], end["stream"]) == ("ab_test", versions.near, "default")
    message = message_of(end, "p")
    assert message is not None
    assert message.title == "retrainer: The A/B test of the timing model has ended"
    assert "The challenger won the A/B test on 30 live posts (E " in message.text


@pytest.mark.slow_on_postgresql
def test_a_retraining_registers_its_candidate_and_does_not_promote_it(project: Project, versions: Versions) -> None:
    test = start(project, versions.farther).test
    result = retrain(project, runtime_of(project), "timing", NOW + timedelta(minutes=1), algorithm="near")
    assert result.run is not None
    assert not result.promoted
    assert str(result.run.promotion_reason).endswith(f", but the A/B test '{test.test_id}' is running")
    assert production(project) == versions.production
    assert look(project, NOW + timedelta(hours=1)).test.status == "running"


@pytest.mark.slow_on_postgresql
def test_a_promotion_and_a_rollback_by_hand_end_the_test(project: Project, versions: Versions) -> None:
    start(project, versions.near)
    promote_version(project, runtime_of(project), versions.farther, "reviewed", NOW)
    ended = look(project, NOW + timedelta(hours=1))
    assert (ended.test.outcome, ended.test.reason) == ("promotion", "Ended by a promotion: reviewed")
    start(project, versions.near, NOW + timedelta(hours=2))
    roll_back(project, runtime_of(project), "timing", "too many misses", NOW + timedelta(hours=3))
    ended = look(project, NOW + timedelta(hours=4))
    assert (ended.test.outcome, ended.test.reason) == ("rollback", "Ended by a rollback: too many misses")
    assert production(project) == versions.production
    assert decide_test(project, runtime_of(project), "timing", NOW + timedelta(hours=5)) is None


@pytest.mark.parametrize(
    ("outcome", "live"),
    [("promoted", "near"), pytest.param("kept", "production", marks=pytest.mark.slow), ("stopped", "production")],
)
@pytest.mark.slow_on_postgresql
def test_a_test_is_ended_by_hand(project: Project, versions: Versions, outcome: Any, live: str) -> None:
    with pytest.raises(ABTestError, match="no A/B test of timing is running"):
        stop_test(project, runtime_of(project), "timing", outcome, "enough", NOW)
    start(project, versions.near)
    done = stop_test(project, runtime_of(project), "timing", outcome, "enough", NOW + timedelta(hours=1))
    assert (done.test.outcome, done.test.reason) == (outcome, "enough")
    assert production(project) == getattr(versions, live)
    assert ledger(project)[-1] == ("ab_end", versions.near, False)


@pytest.mark.slow_on_postgresql
def test_a_challenger_must_be_another_working_version_of_the_model(
    project: Project, versions: Versions, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: type[Exception], message: str, challenger: str, where: Project = project) -> None:
        with pytest.raises(error, match=message):
            start(where, challenger)

    refused(ABTestError, "it is in production", versions.production)
    refused(UnknownName, "unknown version 'none'", "none")
    refused(UsageError, "it is a timing version of the stream 'default'", versions.near, project.for_stream("news"))
    with pytest.raises(UsageError, match="it is a timing version"):
        start_test(project, runtime_of(project), "content", versions.near, "try it", NOW)
    with project.registry.database.write() as session:
        fetch_version(session, versions.far).status = "failed"
        fetch_version(session, versions.farther).status = "archived"
    refused(PromotionRefused, "its evaluation failed", versions.far)
    prune(project, prunable(project), NOW)
    refused(PromotionRefused, "were pruned", versions.farther)
    started = start(project, versions.near)
    with pytest.raises(ABTestError, match=f"the A/B test '{started.test.test_id}' of timing is running"):
        start(project, versions.near)
    assert [entry[0] for entry in ledger(project)] == ["prune", "ab_start"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("share", 101), ("max_posts", 0), ("level", 0), ("level", float("nan")), ("max_cost", -1)]
)
def test_arguments_out_of_range_start_nothing(project: Project, versions: Versions, name: str, value: float) -> None:
    options: Any = {name: value}
    with pytest.raises(UsageError, match=f"{name}: '{value:g}' is not between"):
        start(project, versions.near, **options)
    assert project.registry.get_running_test("timing") is None


@pytest.mark.slow
def test_a_stored_level_that_is_no_probability_is_one_line(project: Project, versions: Versions) -> None:
    start(project, versions.near)
    with project.registry.database.write() as session:
        session.execute(update(ABTest).values(level=0))
    message = r"holds the level '0' of the A/B test 'ab_timing_.*', which is not between 0 and 1.*Correct the row"
    with pytest.raises(DamagedValue, match=message):
        look(project, NOW)


@pytest.mark.slow
def test_a_decision_before_the_interval_is_clear_names_the_evidence_alone(project: Project, versions: Versions) -> None:
    early = replace(start(project, versions.near), num_posts=8, threshold=5, interval=Interval(None, None, 0.08))
    won, lost = replace(early, evidence_for_challenger=6.1), replace(early, evidence_for_production=6.1)
    assert choose_outcome(won) == ("promoted", "The challenger won the A/B test on 8 live posts (E = 6.1, 5 decides)")
    assert choose_outcome(lost) == ("kept", "Production won the A/B test on 8 live posts (E = 6.1, 5 decides)")


@pytest.mark.slow
def test_nothing_in_production_leaves_nothing_to_test_against(folder_on_each_database: Path) -> None:
    configure(folder_on_each_database, algorithm="near", auto_promote="false")
    project = open_project(folder_on_each_database)
    add_posts(project, 60, after=NOW - timedelta(days=20))
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run is not None
    with pytest.raises(NothingInProduction, match="no timing version is in production to test against"):
        start(project, str(run.model_version_id))


@pytest.mark.slow
def test_the_challenger_is_restored_and_not_archived(project: Project, versions: Versions) -> None:
    configure(project.folder, keep_versions="1")
    project = open_project(project.folder)
    with project.registry.database.write() as session:
        fetch_version(session, versions.near).trained_at = NOW - timedelta(days=1)  # the oldest
    assert versions.near in archive_old_versions(project, "timing", NOW)
    start(project, versions.near)
    assert project.registry.get_version(versions.near).status == "trained"
    assert archive_old_versions(project, "timing", NOW) == []
    assert versions.near not in [found.version.version_id for found in prunable(project)]
    stop_test(project, runtime_of(project), "timing", "stopped", "enough", NOW)
    assert archive_old_versions(project, "timing", NOW) == [versions.near]


@pytest.mark.slow_on_postgresql
def test_with_refit_the_challenger_goes_live_with_the_fit_that_was_tested(project: Project, versions: Versions) -> None:
    configure(project.folder, refit="true")
    project = open_project(project.folder)
    start(project, versions.near)
    tested = project.registry.get_version(versions.near).refit
    assert tested is not None
    assert tested.num_samples == 120
    comparison = project.registry.get_live_comparison(look(project, NOW).test.comparison_id or 0)
    assert comparison is not None
    assert comparison.other_fit == f"{versions.near}/{tested.refit_id}"
    assert production(project) == versions.production
    look(project, add_posts(project, 30))
    live = project.registry.get_production("timing")
    assert live is not None
    assert (live.version_id, live.refit) == (versions.near, tested)
    assert predict_next(project, runtime_of(project), "timing", NOW + timedelta(days=9)).version_id == versions.near


@pytest.mark.slow
def test_posts_before_the_start_do_not_count_and_decisions_stand(project: Project, versions: Versions) -> None:
    add_posts(project, 30)
    started = start(project, versions.near, NOW + timedelta(days=7))
    assert look(project, NOW + timedelta(days=8)).num_posts == 0
    last = add_posts(project, 30, after=NOW + timedelta(days=8))
    early = decide_test(project, runtime_of(project), "timing", started.test.started_at - timedelta(days=1))
    assert early is None, "as of a time before it was started"
    assert look(project, last).test.outcome == "promoted"
    project.posts.delete([str(post_id) for post_id in project.posts.load(last)["post_id"][-20:]])
    update_live(project, runtime_of(project), "timing", last)
    assert look(project, last).test.outcome == "promoted"
    assert production(project) == versions.near


@pytest.mark.slow_on_postgresql
def test_a_hold_delays_the_promotion(project: Project, versions: Versions) -> None:
    start(project, versions.near)
    project.registry.hold("timing", "holiday", NOW)
    last = add_posts(project, 30)
    held = look(project, last)
    assert (held.test.status, production(project)) == ("running", versions.production)
    assert "on hold since 2024-11-15 12:00 UTC" in str(held.problem)
    project.registry.release("timing", "back", NOW)
    assert look(project, last).test.outcome == "promoted"


@pytest.mark.slow_on_postgresql
def test_a_challenger_that_cannot_be_loaded_leaves_the_test_running(
    project: Project, versions: Versions, plugins: Plugins
) -> None:
    start(project, versions.near, share=100)
    last = add_posts(project, 30)
    (module,) = plugins.site.glob("*near*_module.py")
    (info,) = plugins.site.glob("*near*.dist-info")
    for path in (module, info):
        shutil.move(path, f"{path}.away")
    project = open_project(project.folder)
    broken = look(project, last)
    assert (broken.test.status, broken.num_posts) == ("running", 0)
    assert "new posts are not scored: " in str(broken.problem)
    assert "near" in str(broken.problem)
    answer = predict_next(project, runtime_of(project), "timing", last, subject="anyone")
    assert (answer.side, answer.version_id) == ("production", versions.production)
    for path in (module, info):
        shutil.move(f"{path}.away", path)
    assert look(project, last).test.outcome == "promoted", "the posts of the meantime count"


@pytest.mark.slow_on_postgresql
def test_a_share_of_the_subjects_is_answered_by_the_challenger(project: Project, versions: Versions) -> None:
    assert choose_version(project, "timing", "anyone")[1] is None
    test = start(project, versions.near, share=20).test
    subjects = [f"subject {number}" for number in range(500)]
    sides = {subject: assign(test, subject) for subject in subjects}
    low, high = binomial_range(500, 0.2)
    assert low <= list(sides.values()).count("challenger") <= high
    assert sides == {subject: assign(test, subject) for subject in reversed(subjects)}
    for subject in [*subjects[:20], *HOSTILE]:
        found = predict_next(project, runtime_of(project), "timing", NOW, subject=subject)
        assert found.side == assign(test, subject)
        assert found.version_id == (versions.near if found.side == "challenger" else versions.production)
    assert predict_next(project, runtime_of(project), "timing", NOW).side is None
    stop_test(project, runtime_of(project), "timing", "stopped", "enough", NOW)
    other = start(project, versions.near, NOW + timedelta(hours=1), share=50).test
    others = [assign(other, subject) for subject in subjects if sides[subject] == "challenger"]
    low, high = binomial_range(len(others), 0.5)
    assert low <= others.count("challenger") <= high, "another test assigns subjects differently"
    everyone = [assign(test, subject) for test in (other,) for subject in HOSTILE]
    assert set(everyone) <= {"production", "challenger"}


@pytest.mark.slow
def test_all_or_none_of_the_subjects(project: Project, versions: Versions) -> None:
    for share, side in ((0.0, "production"), (100.0, "challenger")):
        test = start(project, versions.near, share=share).test
        assert {assign(test, str(number)) for number in range(200)} == {side}
        stop_test(project, runtime_of(project), "timing", "stopped", "enough", NOW)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(0.04, 0.17, 0.1), "4% to 17% smaller (estimate 10%)"),
        (Interval(-0.17, -0.04, -0.1), "4% to 17% larger (estimate 10%)"),
        (Interval(-0.03, 0.12, 0.05), "between 3% larger and 12% smaller (estimate 5% smaller)"),
        (Interval(-0.12, 0.03, -0.05), "between 12% larger and 3% smaller (estimate 5% larger)"),
        (Interval(0.2, None, 0.7), "at least 20% smaller (estimate 70%)"),
        (Interval(None, -0.2, None), "at least 20% larger"),
        (Interval(None, 0.12, 0.05), "at most 12% smaller (estimate 5% smaller)"),
        (Interval(-0.03, None, 0.6), "at most 3% larger (estimate 60% smaller)"),
        (Interval(None, None, 0.02), "about 2% smaller, which may be chance"),
        (Interval(None, None, None), "the same"),
    ],
)
def test_an_interval_in_words(interval: Interval, words: str) -> None:
    assert describe_interval(interval) == words
