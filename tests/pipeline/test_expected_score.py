"""The interval of the score that a content forecast is expected to reach: which posts it goes by."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from retrainer.live.report import report_live
from retrainer.live.update import update_live
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins
from retrainer.model_types.expected_score import expect_score, measure_coverage
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.loading import load_live_fit
from retrainer.pipeline.run import retrain
from retrainer.pipeline.score_history import load_score_history
from retrainer.pipeline.split import load_posts
from retrainer.posts.sample import sample_posts
from retrainer.registry.tables import VersionFile
from tests.conftest import NOW, open_project, runtime_of, version_folder

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from retrainer.model_types.expected_score import ExpectedScore
    from retrainer.project import Project
    from tests.conftest import Prepare

POSTS = sample_posts()
TRAINED_AT = POSTS["created_at"][299].to_pydatetime()  # 240 posts are for training, 60 for the test, 100 come later
CONTENT: Any = get_model_type("content")


def train_on_300_posts(folder: Path) -> str:
    project = open_project(folder, {"RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "200"})
    project.posts.add(POSTS[:300], NOW)
    run = retrain(project, runtime_of(project), "content", TRAINED_AT, as_of=True).run
    assert run is not None
    project.close()
    return str(run.model_version_id)


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    """A project with 300 posts and a content version that was evaluated on the test posts among them."""
    prepare(folder, train_on_300_posts)
    return open_project(folder, {"RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "200"})


def expected(project: Project, now: datetime = NOW, **asked: Any) -> ExpectedScore | None:
    return predict_next(project, runtime_of(project), "content", now, **asked).expected_score


def later_scores(project: Project, until: datetime = NOW) -> NDArray[np.float64]:
    """Return the scores of the posts that the version was not trained on, forecast here."""
    version = project.registry.get_production("content")
    assert version is not None
    posts = load_posts(project, "content", until)
    rows = np.flatnonzero(posts["created_at"] > version.trained_through)
    origins = Origins.before(posts, rows, target_time_known=True)
    forecasts = load_live_fit(project, runtime_of(project), version).predict(posts, origins)
    scores: NDArray[np.float64] = CONTENT.overall_score(
        CONTENT.score_components(forecasts, CONTENT.targets(posts, origins, rows))
    )
    return scores


def test_it_goes_by_the_evaluation_and_then_by_live_posts_each_once(project: Project) -> None:
    first = expected(project)
    assert first == expect_score(later_scores(project))
    assert first is not None
    assert 50 <= first.posts <= 60
    project.posts.add(POSTS, NOW)
    assert expected(project) == first, "nothing has scored the later posts"
    update_live(project, runtime_of(project), "content", NOW)
    assert expected(project) == expect_score(later_scores(project))
    version = project.registry.get_production("content")
    assert version is not None
    evaluate_version(project, runtime_of(project), version.version_id, NOW)
    assert expected(project) == expect_score(later_scores(project)), "the live posts are in this evaluation too"
    history = load_score_history(project, version, NOW)
    assert [post.is_live for post in history.posts].count(True) > 60


def test_a_forecast_of_the_past_goes_by_the_posts_known_then(project: Project) -> None:
    project.posts.add(POSTS, NOW)
    update_live(project, runtime_of(project), "content", NOW)
    for row in (297, 350):  # one was scored in the evaluation, one is live
        moment = POSTS["created_at"][row].to_pydatetime()
        for at in (moment, moment - timedelta(seconds=1)):
            found = expected(project, at=at)
            assert found is not None
            assert found == expect_score(later_scores(project, at))
    version = project.registry.get_production("content")
    assert version is not None
    assert expected(project, at=version.trained_through) is None, "it has forecast nothing yet"


def test_with_fewer_than_50_scored_posts_there_is_none(folder: Path) -> None:
    project = open_project(folder, {"RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "49"})
    project.posts.add(POSTS[:300], NOW)
    retrain(project, runtime_of(project), "content", TRAINED_AT, as_of=True)
    assert expected(project) is None
    project.posts.add(POSTS[:310], NOW)
    update_live(project, runtime_of(project), "content", NOW)
    found = expected(project)
    assert found is not None
    assert 50 <= found.posts <= 59


def test_without_stored_forecasts_there_is_none(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    version = project.registry.get_production("content")
    assert version is not None
    (evaluation,) = project.registry.list_evaluations(version.version_id)
    with project.registry.database.write() as session:
        session.execute(sa.delete(VersionFile).where(VersionFile.path == evaluation.forecasts_file))
    (version_folder(project, "content", version.version_id) / evaluation.forecasts_file).unlink()
    answer = predict_next(project, runtime_of(project), "content", NOW)
    assert (answer.outcome, answer.expected_score) == ("ok", None)
    assert f"Cannot read the forecasts of '{evaluation.evaluation_id}'" in caplog.text


def test_without_a_score_of_the_last_200_posts_there_is_none(project: Project) -> None:
    last = POSTS["created_at"][299]

    def add(count: int) -> None:
        later = sample_posts(count=count).assign(post_id=[f"later-{number}" for number in range(count)])
        later["created_at"] = [last + timedelta(minutes=number + 1) for number in range(count)]
        project.posts.add(later.assign(content="a text"), NOW)

    before = expected(project)
    add(199)
    assert expected(project) == before
    add(200)
    assert expected(project) is None
    update_live(project, runtime_of(project), "content", NOW)
    assert expected(project) == expect_score(later_scores(project))


def test_a_post_that_was_deleted_no_longer_counts(project: Project) -> None:
    before = expected(project)
    with project.registry.database.write() as session:
        session.execute(sa.text("DELETE FROM posts WHERE post_id = :id"), {"id": POSTS["post_id"][280]})
    after = expected(project)
    assert before is not None
    assert after is not None
    assert after.posts == before.posts - 1


def test_evaluations_and_the_live_report_say_how_often_it_covered(project: Project) -> None:
    version = project.registry.get_production("content")
    assert version is not None
    project.posts.add(POSTS, NOW)
    evaluation = evaluate_version(project, runtime_of(project), version.version_id, NOW)
    covered = measure_coverage(later_scores(project))
    assert covered is not None
    metrics = {name: evaluation.metrics[f"expected_score_{name}"] for name in covered._fields}
    assert metrics == covered._asdict()
    assert report_live(project, "content", NOW).expected_score_coverage is None, "no live posts yet"
    update_live(project, runtime_of(project), "content", NOW)
    report = report_live(project, "content", NOW)
    scores = later_scores(project)
    assert report.expected_score_coverage == measure_coverage(scores, len(scores) - report.num_posts)
    assert report.expected_score_coverage is not None
    assert report.expected_score_coverage.posts == report.num_posts
