"""The report on live scores says what the stored scores show, and no more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from retrainer.errors import NothingInProduction
from retrainer.evaluation.sequential import ConfidenceSequence, EProcess, Stakes
from retrainer.live.error_interval import ErrorInterval
from retrainer.live.report import report_live
from retrainer.live.summary import summarize_live
from retrainer.model_types import MODEL_TYPE_NAMES, get_model_type
from retrainer.pipeline.run import retrain
from retrainer.registry.ledger import new_entry
from tests.conftest import NOW, open_project, regular_posts, runtime_of, train_both_types, train_timing
from tests.live.scores import MONDAY, WORST, losses, record_scores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project
    from tests.conftest import Prepare

LATER = NOW + timedelta(days=400)
pytestmark = pytest.mark.slow_on_postgresql


@pytest.fixture
def live(folder: Path, prepare: Prepare) -> Iterator[Project]:
    """A project with a timing version in production."""
    prepare(folder, train_timing)
    project = open_project(folder)
    yield project
    project.close()


def promote_another(project: Project) -> str:
    """Train and promote a second version; return the first one."""
    first = project.registry.get_production("timing")
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert first
    assert run
    project.registry.promote(str(run.model_version_id), first.version_id, "by hand", NOW)
    return first.version_id


def test_without_scores_there_are_too_few_posts(live: Project) -> None:
    found = report_live(live, "timing", LATER)
    assert (found.verdict, found.num_posts, found.weeks) == ("too_few_posts", 0, [])
    assert found.sentence == "Too few posts to say: no live post has been scored yet."


def test_without_a_production_version_there_is_no_report(live: Project) -> None:
    with pytest.raises(NothingInProduction, match="no content version is in production"):
        report_live(live, "content", LATER)


def test_a_version_that_is_better_than_naive_is_fine(live: Project) -> None:
    record_scores(live, "naive", losses(400, 3.0), losses(400, 5.0, seed=2))
    found = report_live(live, "timing", LATER)
    assert found.verdict == "fine"
    assert found.sentence.startswith("Fine: over 400 live posts its error is ")
    assert found.sentence.endswith(" smaller than the naive forecast's; this holds however often you look.")


def test_a_version_that_is_worse_than_naive_is_called_so(live: Project) -> None:
    record_scores(live, "naive", losses(400, 5.0), losses(400, 3.0, seed=2))
    found = report_live(live, "timing", LATER)
    assert found.verdict == "worse_than_naive"
    assert "larger than the naive forecast's" in found.sentence


def test_a_version_that_is_better_than_naive_may_be_worse_than_what_it_replaced(live: Project) -> None:
    first = promote_another(live)
    record_scores(live, "naive", losses(400, 4.0), losses(400, 6.0, seed=2))
    record_scores(live, "previous", losses(400, 4.0), losses(400, 2.5, seed=3), other_version_id=first)
    found = report_live(live, "timing", LATER)
    assert found.verdict == "worse_than_previous"
    assert f"larger than that of '{first}'" in found.sentence
    assert [one.against for one in found.comparisons] == ["naive", "previous"]


def test_a_version_that_forecasts_the_same_is_as_good_as_naive(live: Project) -> None:
    same = losses(400, 4.0)
    record_scores(live, "naive", same, same + np.random.default_rng(3).uniform(-0.01, 0.01, 400), stake=0.01)
    found = report_live(live, "timing", LATER)
    assert found.verdict == "as_good_as_naive"
    assert found.sentence.startswith("As good as the naive forecast: over 400 live posts its error is ")


@pytest.mark.parametrize("count", [1, 120])
def test_a_few_posts_say_nothing(live: Project, count: int) -> None:
    record_scores(live, "naive", losses(count, 4.0), losses(count, 4.0, seed=2))
    found = report_live(live, "timing", LATER)
    assert found.verdict == "too_few_posts"
    assert found.sentence.startswith(
        f"Too few posts to say: {'1 live post so far.' if count == 1 else 'over 120 live'}"
    )


def test_weeks_are_iso_weeks_of_utc_and_add_up_to_the_whole(live: Project) -> None:
    a, b = losses(100, 3.0), losses(100, 4.0, seed=2)
    record_scores(live, "naive", a, b)
    found = report_live(live, "timing", LATER)
    # Four posts a day from Monday 06:00; the post at 00:00 of a Monday is of the new week.
    assert [week.live.num_posts for week in found.weeks] == [27, 28, 28, 17]
    assert [week.start for week in found.weeks] == [MONDAY + timedelta(weeks=number) for number in range(4)]
    overall = get_model_type("timing").overall_score
    near = np.array([np.mean(a[:27] <= 3), np.mean(2 * a[:27])])
    assert found.weeks[0].live.score == pytest.approx(float(overall(near)))
    assert found.weeks[0].live.crps == pytest.approx(a[:27].mean())
    assert found.weeks[0].naive.crps == pytest.approx(b[:27].mean())
    assert found.weeks[0].live.coverage == pytest.approx(np.mean(a[:27] <= 3))
    whole = found.comparisons[0]
    assert whole.live
    assert whole.live.crps == pytest.approx(a.mean())


def test_intervals_and_evidence_are_those_of_all_posts_up_to_the_end_of_a_week(live: Project) -> None:
    a, b = losses(100, 3.0), losses(100, 4.0, seed=2)
    record_scores(live, "naive", a, b)
    found = report_live(live, "timing", LATER)
    stakes = Stakes(a, b, *np.full((3, 100), WORST))
    for week, count in zip(found.weeks, [27, 55, 83, 100], strict=True):
        process, sequence = EProcess(), ConfidenceSequence()
        process.update(stakes.rows(0, count))
        sequence.update(stakes.rows(0, count))
        assert week.evidence["naive"] == pytest.approx((process.worse, process.better))
        expected = ErrorInterval.of_a(sequence.interval())
        assert week.so_far.high == pytest.approx(expected.high)
        assert week.so_far.low == pytest.approx(expected.low)


@pytest.mark.slow
def test_since_leaves_out_weeks_and_nothing_else(live: Project) -> None:
    record_scores(live, "naive", losses(100, 3.0), losses(100, 4.0, seed=2))
    whole = report_live(live, "timing", LATER)
    found = report_live(live, "timing", LATER, since=MONDAY + timedelta(days=15))
    assert found.weeks == whole.weeks[2:]
    assert (found.sentence, found.comparisons) == (whole.sentence, whole.comparisons)


def test_as_of_a_past_time_only_the_posts_up_to_it_count(live: Project) -> None:
    a, b = losses(400, 3.0), losses(400, 5.0, seed=2)
    record_scores(live, "naive", a, b)
    found = report_live(live, "timing", MONDAY + timedelta(hours=6 * 60))
    assert found.num_posts == 60
    process = EProcess()
    process.update(Stakes(a[:60], b[:60], *np.full((3, 60), WORST)))
    assert found.comparisons[0].e_better == pytest.approx(process.better)


def test_the_promise_is_shown_beside_what_came(live: Project) -> None:
    first = promote_another(live)
    second = report_live(live, "timing", LATER)
    assert second.promise is None, "promoted by hand"
    evidence = {"metrics_a": {"overall_score": 0.5}, "metrics_b": {"overall_score": 0.52}, "num_predictions": 30}
    ids: dict[str, Any] = {"version_id": second.version_id, "from_version_id": first}
    ids["to_version_id"] = second.version_id
    with live.registry.database.write() as session:
        key = live.registry.key("timing")
        session.add(new_entry("promotion", key, "New model is 4.0% better", NOW, evidence=evidence, **ids))
    promise = report_live(live, "timing", LATER).promise
    assert promise
    assert (promise.over, promise.num_posts, promise.live_percentage) == (first, 30, None)
    assert promise.percentage == pytest.approx(4)
    record_scores(live, "previous", losses(50, 3.0), losses(50, 4.0, seed=3), other_version_id=first)
    promise = report_live(live, "timing", LATER).promise
    assert promise
    previous = report_live(live, "timing", LATER).against("previous")
    assert previous
    assert previous.live
    assert previous.other
    assert promise.live_num_posts == 50
    assert promise.live_percentage == pytest.approx((previous.live.score / previous.other.score - 1) * 100)


@pytest.mark.slow
def test_posts_that_come_late_are_counted(live: Project) -> None:
    record_scores(live, "naive", losses(10, 3.0), losses(10, 4.0, seed=2))
    assert report_live(live, "timing", LATER).late_posts == 0
    late = regular_posts(3, start=MONDAY - timedelta(days=300))
    live.posts.add(late.assign(post_id=["late-1", "late-2", "late-3"]), datetime.now(UTC))
    assert report_live(live, "timing", LATER).late_posts == 3


@pytest.mark.slow
def test_content_has_no_distributions(folder: Path, prepare: Prepare) -> None:
    prepare(folder, train_both_types)
    project = open_project(folder)
    record_scores(project, "naive", losses(60, 3.0), losses(60, 4.0, seed=2), model_type="content")
    found = report_live(project, "content", LATER)
    assert found.calibration is None
    assert found.weeks[0].live.crps is None
    assert found.weeks[0].live.coverage is None
    assert found.num_posts == 60
    project.close()


@pytest.mark.slow
def test_damaged_scores_of_one_model_type_hide_no_other(folder: Path, prepare: Prepare) -> None:
    prepare(folder, train_both_types)
    project = open_project(folder)
    for model_type in MODEL_TYPE_NAMES:
        record_scores(project, "naive", losses(60, 3.0), losses(60, 4.0, seed=2), model_type=model_type)
    with project.registry.database.write() as session:
        session.execute(sa.text("UPDATE retrainer_live_comparisons SET sums = '{}' WHERE model_type = 'timing'"))
    summaries, damaged = summarize_live(project.registry)
    assert [key.model_type for key in summaries] == ["content"]
    assert [key.model_type for key in damaged] == ["timing"]
    assert report_live(project, "content", LATER).num_posts == 60
    project.close()


def test_a_summary_agrees_with_the_report(live: Project) -> None:
    first = promote_another(live)
    record_scores(live, "naive", losses(400, 3.0), losses(400, 5.0, seed=2))
    record_scores(live, "previous", losses(300, 3.0), losses(300, 3.5, seed=3), other_version_id=first)
    report = report_live(live, "timing", LATER)
    summaries, _ = summarize_live(live.registry)
    summary = summaries[live.registry.key("timing")]
    assert (summary.verdict, summary.num_posts, summary.fit) == (report.verdict, report.num_posts, report.fit)
    for one, other in zip(summary.comparisons, report.comparisons, strict=True):
        assert one.live == pytest.approx(other.live)
        assert one.other == pytest.approx(other.other)
        assert (one.e_worse, one.e_better) == pytest.approx((other.e_worse, other.e_better))


def test_one_of_several_streams_is_worse_at_the_evidence_of_a_rollback(live: Project) -> None:
    record_scores(live, "naive", losses(100, 3.0), losses(100, 5.0, seed=2))
    summaries, _ = summarize_live(live.registry)
    (found,) = summaries.values()
    for e_value, alone, one_of_several in ((19.0, False, False), (20.0, True, False), (100.0, True, True)):
        summary = replace(found, comparisons=[replace(found.comparisons[0], e_worse=e_value)])
        seen = [summary.find_worse(several=several) is not None for several in (False, True)]
        assert seen == [alone, one_of_several]


@pytest.mark.slow
def test_the_scores_of_an_earlier_fit_do_not_count(live: Project) -> None:
    record_scores(live, "naive", losses(400, 5.0), losses(400, 3.0, seed=2))
    assert report_live(live, "timing", LATER).verdict == "worse_than_naive"
    promote_another(live)
    assert report_live(live, "timing", LATER).verdict == "too_few_posts"
