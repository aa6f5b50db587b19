"""Live scores over HTTP: as recorded by a GET, brought up to date by a POST, and as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import TOKEN, WITH_TOKEN
from tests.api.test_operation import of, samples
from tests.cli.test_live import NAME, make_streams
from tests.conftest import open_project, train_timing
from tests.live.scores import losses, record_scores

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve
    from tests.command_line import Runner
    from tests.conftest import Prepare


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


def score_a_bad_version(folder: Path) -> str:
    """Put a timing version in production that is worse than naive; return it."""
    version_id = train_timing(folder)
    project = open_project(folder)
    record_scores(project, "naive", losses(200, 6.0), losses(200, 3.0, seed=2))
    project.close()
    return version_id


@pytest.fixture
def bad(folder: Path, prepare: Prepare) -> str:
    return prepare(folder, score_a_bad_version)


@pytest.mark.slow_on_postgresql
def test_a_get_shows_what_is_recorded(bad: str, serve: Serve) -> None:
    server = serve()
    document = server.get("/models/live/timing").json()
    assert (document["version_id"], document["num_posts"]) == (bad, 200)
    assert document["verdict"] == "worse_than_naive"
    assert sum(week["num_posts"] for week in document["weeks"]) == 200
    assert document["comparisons"][0]["e_worse"] > 20
    assert document["comparisons"][0]["error_smaller_by"]["high"] < 0
    assert document["next_train"] is None


@pytest.mark.slow_on_postgresql
def test_nothing_in_production_is_a_conflict(bad: str, serve: Serve) -> None:
    assert bad
    answer = serve().get("/models/live/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "nothing_in_production")


@pytest.mark.slow_on_postgresql
def test_only_a_post_needs_the_token(bad: str, serve: Serve) -> None:
    server = serve(env={"RETRAINER_API_TOKEN": TOKEN})
    assert server.get("/models/live/timing").json()["version_id"] == bad
    assert server.post("/models/live/timing/update").status_code == 401
    assert server.post("/models/live/timing/update", headers=WITH_TOKEN).json()["version_id"] == bad


@pytest.mark.slow_on_postgresql
def test_metrics_show_how_production_does(bad: str, serve: Serve) -> None:
    assert bad
    seen = samples(serve())
    assert seen[of("retrainer_live_posts", model_type="timing")] == 200
    assert seen[of("retrainer_live_skill", model_type="timing")] < 0
    assert 0 < seen[of("retrainer_live_score", model_type="timing")] < 1
    assert 0 < seen[of("retrainer_live_interval_coverage", model_type="timing")] < 1
    assert seen[of("retrainer_live_e_worse", model_type="timing", against="naive")] > 20
    assert seen[of("retrainer_live_e_better", model_type="timing", against="naive")] < 1
    assert seen[of("retrainer_ab_test_running", model_type="timing")] == 0


@pytest.mark.slow_on_postgresql
def test_status_reports_a_version_that_is_worse(bad: str, retrainer: Runner) -> None:
    shown = retrainer("status", "--json")
    assert shown.code == 1
    (problem,) = [one for one in shown.json["problems"] if one["kind"] == "degraded"]
    assert problem["subject"] == bad
    assert problem["message"] == f"the timing version '{bad}' is worse than the naive forecast on 200 live posts"


@pytest.mark.slow
def test_metrics_of_several_streams_have_the_stream_as_a_label(folder: Path, serve: Serve) -> None:
    make_streams(folder)
    seen = samples(serve())
    for stream, sign in (("news", -1), (NAME, 1)):
        labels = {"stream": stream, "model_type": "timing"}
        assert seen[of("retrainer_live_posts", **labels)] == 200
        assert seen[of("retrainer_live_skill", **labels)] * sign > 0
    assert seen[of("retrainer_streams_worse", model_type="timing")] == 1
    assert seen[of("retrainer_streams_worse", model_type="content")] == 0
