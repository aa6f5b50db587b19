"""Health, metrics and the request log."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from retrainer.pipeline.run import retrain
from retrainer.registry.runs import Spending
from tests.conftest import NOW, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.conftest import Serve, ServeProcess, Server
    from tests.command_line import Runner


DEPLOY = Path(__file__).parent.parent.parent / "deploy"
METRIC = re.compile(r"\bretrainer_[a-z0-9_]+\b")


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Scrape the metrics, by the parser of Prometheus's own library."""
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"] == CONTENT_TYPE_LATEST
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_metrics_show_production_and_runs(trained: str, serve: Serve, retrainer: Runner) -> None:
    server = serve()
    seen = samples(server)
    assert seen[of("retrainer_database_up")] == 1
    labels = {"model_type": "timing", "version_id": trained, "algorithm": "baseline"}
    assert seen[of("retrainer_production_info", **labels)] == 1
    assert seen[of("retrainer_last_run_failed", model_type="timing")] == 0
    assert seen[of("retrainer_run_running", model_type="timing")] == 0
    assert seen[of("retrainer_automatic_promotion_held", model_type="timing")] == 0
    assert of("retrainer_last_completed_run_timestamp_seconds", model_type="timing") in seen
    assert retrainer("hold", "timing").code == 0
    assert retrainer("train", "timing", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="100000").code == 3
    seen = samples(server)
    assert seen[of("retrainer_automatic_promotion_held", model_type="timing")] == 1
    assert seen[of("retrainer_last_run_failed", model_type="timing")] == 1
    assert seen[of("retrainer_last_run_failed", model_type="content")] == 0


def test_requests_are_counted_by_route_and_not_by_path(trained: str, serve: Serve) -> None:
    server = serve()
    for name in ("a", "b", "c"):
        server.get(f"/models/versions/{name}")
        server.get(f"/{name}")
    server.request("PUT", "/models/versions")
    seen = samples(server)
    route = {"method": "GET", "route": "/models/versions/{version_id}", "status": "404"}
    assert seen[of("retrainer_http_requests_total", **route)] == 3
    assert seen[of("retrainer_http_requests_total", method="GET", route="none", status="404")] == 3
    assert seen[of("retrainer_http_requests_total", method="other", route="/models/versions", status="405")] == 1
    assert seen[of("retrainer_http_request_duration_seconds_count", route="none")] == 3


def test_health_does_not_need_a_version(bad_input_server: Server) -> None:
    assert bad_input_server.get("/health/live").json() == {"status": "live"}
    assert bad_input_server.get("/health/ready").json() == {"status": "ready"}


@pytest.mark.slow
def test_each_request_is_one_log_line_that_cannot_be_forged(serve_process: ServeProcess, folder: object) -> None:
    server = serve_process()
    server.get("/models/versions?limit=3")
    server.get("/models/versions/x%0aGET%20/forged%20200")
    server.stop()
    requests = [line for line in server.lines if line.startswith("GET ")]
    assert requests[0].startswith("GET /models/versions 200 ")
    assert requests[1].startswith("GET /models/versions/x%0aGET%20/forged%20200 404 ")
    assert len(requests) == 2


@pytest.mark.slow_on_postgresql
def test_metrics_show_scores_posts_durations_and_cost(folder_on_each_database: Path, serve: Serve) -> None:
    project = open_project(folder_on_each_database)
    project.posts.add(regular_posts(120), NOW)
    runs = [retrain(project, runtime_of(project), "timing", NOW).run for _ in range(2)]
    (evaluation,) = project.registry.list_evaluations(str(runs[0] and runs[0].model_version_id), limit=1)
    project.registry.record_spending(str(runs[1] and runs[1].run_id), Spending(9, 0.25, 0))
    seen = samples(serve())
    timing = {"model_type": "timing"}
    assert seen[of("retrainer_production_score", **timing)] == evaluation.overall_score
    assert seen[of("retrainer_production_skill", **timing)] == evaluation.metrics["skill"]
    assert seen[of("retrainer_production_interval_coverage", **timing)] == evaluation.metrics["interval_coverage"]
    assert of("retrainer_production_score", model_type="content") not in seen
    assert seen[of("retrainer_posts")] == 120
    newest = (NOW - timedelta(hours=5)).timestamp()
    assert seen[of("retrainer_newest_post_timestamp_seconds")] == newest
    assert seen[of("retrainer_posts_stale_timestamp_seconds")] == newest + 10 * 3600
    for outcome in ("promoted", "not_promoted"):
        assert seen[of("retrainer_run_duration_seconds_count", outcome=outcome, **timing)] == 1
        assert seen[of("retrainer_run_duration_seconds_sum", outcome=outcome, **timing)] >= 0
    assert seen[of("retrainer_cost_usd_total", **timing)] == 0.25
    assert seen[of("retrainer_cost_usd_total", model_type="content")] == 0


def test_metrics_follow_new_posts_and_lack_posts_that_cannot_be_read(folder: Path, serve: Serve) -> None:
    server = serve()
    assert samples(server)[of("retrainer_posts")] == 0
    project = open_project(folder)
    project.posts.add(regular_posts(3), NOW)
    assert samples(server)[of("retrainer_posts")] == 3
    with sqlite3.connect(folder / "data" / "retrainer.db") as connection:
        connection.execute("ALTER TABLE posts RENAME TO gone")
    connection.close()
    seen = samples(server)
    assert seen[of("retrainer_database_up")] == 1
    assert of("retrainer_posts") not in seen


def test_a_foreign_table_is_read_once_for_metrics_and_for_the_status(
    folder: Path, tmp_path: Path, serve: Serve, foreign_queries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.serving.caches.MAX_AGE_SECONDS", 600)
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("CREATE TABLE notes (post_id TEXT, created_at TEXT, content TEXT)")
        rows = [(f"{day}", f"2024-03-{day:02} 12:00:00", "text") for day in range(1, 31)]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", rows)
    connection.close()
    url = f"sqlite:///{tmp_path}/foreign.db"
    server = serve(env={"RETRAINER_POSTS__URL": url, "RETRAINER_POSTS__TABLE": "notes"})
    for _ in range(2):
        seen = samples(server)
        assert seen[of("retrainer_posts")] == 30
        newest = seen[of("retrainer_newest_post_timestamp_seconds")]
        assert seen[of("retrainer_posts_stale_timestamp_seconds")] == newest + 48 * 3600
    assert len(foreign_queries) == 1
    answers = [server.get("/status").json() for _ in range(2)]
    assert answers[0] == answers[1], "kept for a second"
    posts = answers[0]["posts"]
    assert (posts["count"], posts["recent_per_day"], posts["usual_per_day"]) == (30, 0, pytest.approx(30 / 29))
    assert len(foreign_queries) == 2
    assert not any("content" in query for query in foreign_queries)


@pytest.fixture
def foreign_queries() -> Iterator[list[str]]:
    """The queries of the table `notes` from now on."""
    queries: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM notes" in statement:
            queries.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    yield queries
    sa.event.remove(sa.Engine, "before_cursor_execute", record)


def test_alerts_and_dashboard_name_only_metrics_that_exist(trained: str, serve: Serve) -> None:
    server = serve()
    server.get("/health/live")
    known = {name for name, _ in samples(server)}
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts) > 8
    assert all(alert["annotations"].keys() == {"summary", "description"} for alert in alerts)
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in (*(alert["expr"] for alert in alerts), *queries):
        names = set(METRIC.findall(expression))
        assert names, expression
        assert names <= known, expression
    shown = {name for query in queries for name in METRIC.findall(query)}
    suffix = re.compile(r"_(?:total|count|sum|bucket|created)$")
    assert {suffix.sub("", name) for name in known if name.startswith("retrainer_")} == {
        suffix.sub("", name) for name in shown
    }, "the dashboard shows every metric"


def test_prometheus_accepts_the_alerts() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: install the Debian package prometheus")
    command = [promtool, "check", "rules", str(DEPLOY / "prometheus-rules.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
