"""Several streams over HTTP: each request about a model says which one it is of."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute

from retrainer.api.project_metrics import ProjectMetrics
from retrainer.api.routes import ab_tests, health, live, read, streams, write
from retrainer.pipeline.run import retrain
from tests.api.conftest import PATIENCE
from tests.api.test_operation import of, samples
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, Server, Turnstile
    from tests.command_line import Runner
    from tests.conftest import Prepare

HOSTILE = "../x y/ü&=#%00\"'<b>*"
NAMES = [HOSTILE, "News", "news"]  # in order
STREAMS = f"the project has {len(NAMES)} streams"
NOT_ABOUT_A_MODEL = {
    "/health/live": "the process",
    "/health/ready": "the process and its database",
    "/metrics": "all streams, for Prometheus, which has no use for one",
}
ROUTES = [
    route
    for module in (read, write, live.look, live.change, ab_tests.look, ab_tests.change, streams, health)
    for route in getattr(module, "router", module).routes
    if isinstance(route, APIRoute)
]


def in_url(name: str) -> str:
    return quote(name, safe="")


def train_streams(folder: Path) -> dict[str, list[str]]:
    """Train two versions of each stream, the first of which is in production; return their ids."""
    project = open_project(folder)
    ids = {}
    for name in NAMES:
        own = project.for_stream(name)
        own.posts.add(regular_posts(120), NOW)
        runs = [retrain(own, runtime_of(own), "timing", NOW).run for _ in range(2)]
        ids[name] = [str(run.model_version_id) for run in runs if run]
    project.close()
    return ids


@pytest.fixture
def versions(folder: Path, prepare: Prepare) -> dict[str, list[str]]:
    return prepare(folder, train_streams)


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


def production(server: Server, stream: str) -> str:
    document = server.get(f"/models/production?stream={in_url(stream)}").json()
    assert document["stream"] == document["timing_model"]["stream"] == stream
    version_id: str = document["timing_model"]["version_id"]
    assert server.get(f"/models/predict/timing?stream={in_url(stream)}").json()["version_id"] == version_id
    return version_id


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_every_route_about_a_model_takes_a_stream(route: APIRoute) -> None:
    parameters = {field.alias for field in route.dependant.query_params}
    assert ("stream" in parameters) is (route.path not in NOT_ABOUT_A_MODEL)


@pytest.mark.slow_on_postgresql
def test_a_request_about_one_model_names_its_stream(
    versions: dict[str, list[str]], serve: Serve, retrainer: Runner
) -> None:
    server = serve()
    said = retrainer("predict", "timing")
    assert said.code == 2
    assert STREAMS in said.err
    about_one = [
        ("GET", "/models/production"),
        ("GET", "/models/predict/timing"),
        ("GET", "/models/predict/content"),
        ("GET", "/models/versions/timing@production"),
        ("GET", "/models/compare/timing@previous/timing@production"),
        ("POST", "/models/promote/timing@latest"),
        ("POST", "/models/rollback/timing"),
        ("POST", "/models/retrain"),
    ]
    for method, path in about_one:
        without = server.request(method, path)
        assert without.status_code == 422, path
        assert without.json()["error"] == {
            "code": "usage",
            "message": STREAMS,
            "hint": "Choose one with ?stream=; /streams lists them",
        }
        unknown = server.request(method, f"{path}?stream=new")
        assert unknown.status_code == 404, path
        assert unknown.json()["error"]["message"] == "unknown stream 'new'"
        assert "news" in unknown.json()["error"]["hint"]
    assert {name: production(server, name) for name in NAMES} == {name: ids[0] for name, ids in versions.items()}


@pytest.mark.slow_on_postgresql
def test_promotions_and_rollbacks_concern_one_stream(versions: dict[str, list[str]], serve: Serve) -> None:
    server = serve()
    first, second = versions[HOSTILE]
    before = {name: production(server, name) for name in NAMES}
    promoted = server.post(f"/models/promote/{second}").json()
    assert (promoted["stream"], promoted["version_id"]) == (HOSTILE, second)
    assert {name: production(server, name) for name in NAMES} == before | {HOSTILE: second}
    assert server.get(f"/models/versions/timing@previous?stream={in_url(HOSTILE)}").json()["version_id"] == first
    rolled_back = server.post(f"/models/rollback/timing?stream={in_url(HOSTILE)}").json()
    assert (rolled_back["stream"], rolled_back["version_id"]) == (HOSTILE, first)
    assert {name: production(server, name) for name in NAMES} == before
    nothing_to_undo = server.post("/models/rollback/timing?stream=news")
    assert nothing_to_undo.status_code == 409


@pytest.mark.slow_on_postgresql
def test_a_version_or_run_of_another_stream_is_not_found(versions: dict[str, list[str]], serve: Serve) -> None:
    server = serve()
    (first, second), (other, _) = versions["news"], versions["News"]
    (run, *_) = server.get("/models/training-history?stream=news").json()["training_runs"]
    for path in (
        f"/models/versions/{first}",
        f"/models/compare/{first}/{second}",
        f"/models/training-history/{run['run_id']}",
    ):
        assert server.get(path).status_code == server.get(f"{path}?stream=news").status_code != 404
        wrong = server.get(f"{path}?stream=News")
        assert wrong.status_code == 404
        assert wrong.json()["error"]["message"].endswith("belongs to the stream 'news', not 'News'")
    assert server.post(f"/models/promote/{first}?stream=News").status_code == 404
    between = server.get(f"/models/compare/{first}/{other}")
    assert between.status_code == 422
    assert "of the same stream" in between.json()["error"]["hint"]


@pytest.mark.slow_on_postgresql
def test_lists_cover_all_streams_or_those_that_match(versions: dict[str, list[str]], serve: Serve) -> None:
    server = serve()

    def streams(path: str, key: str, query: str) -> set[str]:
        document = server.get(f"{path}?limit=100{query}").json()
        assert document["count"] == 2 * len({row["stream"] for row in document[key]})
        return {row["stream"] for row in document[key]}

    for path, key in (("/models/versions", "versions"), ("/models/training-history", "training_runs")):
        for query, expected in {
            "": set(NAMES),
            "&stream=news": {"news"},
            "&stream=news&stream=News": {"news", "News"},
            "&stream=*ews": {"news", "News"},
            "&stream=[N]*": {"News"},
            f"&stream={in_url(HOSTILE)}": {HOSTILE},
        }.items():
            assert streams(path, key, query) == expected, query
        for pattern in ("new", "x*"):
            nothing = server.get(f"{path}?stream=news&stream={pattern}")
            assert nothing.status_code == 404, pattern
    changes = server.get("/models/training-history?stream=news").json()["changes"]
    assert {change["stream"] for change in changes} == {"news"}


@pytest.mark.parametrize("name", ["", "%20", "a%00", "%0a", "x" * 300], ids=["empty", "blank", "NUL", "line", "long"])
def test_an_impossible_name_is_refused(name: str, bad_input_server: Server) -> None:
    ids = dict.fromkeys(("version_id", "version_a", "version_b", "run_id"), "a")
    for route in ROUTES:
        if route.path in NOT_ABOUT_A_MODEL:
            continue
        path = route.path.format(**ids, model_type="timing")
        answer = bad_input_server.request(min(route.methods or ()), f"{path}?stream={name}")
        assert answer.status_code == 422, path
        assert answer.json()["error"]["message"].startswith("stream"), path
        assert "must" in answer.json()["error"]["message"]


@pytest.mark.slow_on_postgresql
def test_the_only_stream_needs_no_name_until_there_is_another(
    folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.serving.streams.MAX_AGE_SECONDS", 0)  # on PostgreSQL; on SQLite commits count
    project = open_project(folder)
    server = serve()
    assert server.get("/models/production").json()["stream"] == "default"
    project.posts.for_stream("news").add(regular_posts(120), NOW)
    assert server.get("/models/production").json()["stream"] == "news"
    project.posts.for_stream("News").add(regular_posts(3), NOW)
    assert server.get("/models/production").status_code == 422
    assert server.get("/models/production?stream=default").status_code == 404


@pytest.mark.slow_on_postgresql
def test_a_new_stream_of_a_foreign_table_is_noticed(
    folder: Path, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("caches", "streams"):
        monkeypatch.setattr(f"retrainer.serving.{module}.MAX_AGE_SECONDS", 0)
    project = open_project(folder).for_stream("news")
    project.posts.add(regular_posts(120), NOW)
    assert retrain(project, runtime_of(project), "timing", NOW).run
    settings = {"URL": f"sqlite:///{tmp_path}/foreign.db", "TABLE": "notes", "COLUMNS__STREAM": "account"}
    with closing(sqlite3.connect(tmp_path / "foreign.db", isolation_level=None)) as notes:
        notes.execute("CREATE TABLE notes (post_id TEXT, created_at TEXT, content TEXT, account TEXT)")
        notes.execute("INSERT INTO notes VALUES ('1', '2024-03-01 12:00:00', 'text', 'news')")
        server = serve(env={f"RETRAINER_POSTS__{key}": value for key, value in settings.items()})
        paths = ("/models/production", "/models/versions/timing@production")
        assert [server.get(path).status_code for path in paths] == [200, 200]
        notes.execute("INSERT INTO notes VALUES ('1', '2024-03-01 12:00:00', 'text', 'more')")
        assert [server.get(path).status_code for path in paths] == [422, 422]


@pytest.mark.slow_on_postgresql
def test_a_retrain_of_a_stream_uses_its_settings(versions: dict[str, list[str]], folder: Path, serve: Serve) -> None:
    configure(folder, streams="{'n*': {retraining: {timing_model: {enabled: false}}}}")
    server = serve()
    assert server.post("/models/retrain?stream=news", json={"model_type": "timing"}).status_code == 409
    run_ids = server.post("/models/retrain?stream=News", json={"model_type": "timing"}).json()["run_ids"]
    run = server.ended(run_ids["timing"])
    assert (run["stream"], run["status"], run["compared_with"]) == ("News", "completed", versions["News"][0])
    assert server.get("/models/training-history?stream=news").json()["total"] == 2


@pytest.mark.slow_on_postgresql
def test_metrics_of_several_streams_have_their_names(
    versions: dict[str, list[str]], folder: Path, serve: Serve
) -> None:
    open_project(folder).for_stream(HOSTILE).registry.hold("timing", "for a test", NOW)
    seen = samples(serve())
    assert not ProjectMetrics(open_project(folder)).may_be_kept(NOW), "there may be several streams by then"
    for name, (version_id, _) in versions.items():
        labels = {"stream": name, "model_type": "timing"}
        assert seen[of("retrainer_production_info", version_id=version_id, algorithm="baseline", **labels)] == 1
        assert seen[of("retrainer_automatic_promotion_held", **labels)] == (name == HOSTILE)
        assert seen[of("retrainer_last_run_failed", **labels)] == 0
        assert seen[of("retrainer_posts", stream=name)] == 120
    assert seen[of("retrainer_streams")] == 3
    assert seen[of("retrainer_streams_held", model_type="timing")] == 1
    assert seen[of("retrainer_run_duration_seconds_count", model_type="timing", outcome="promoted")] == 3
    assert of("retrainer_posts") not in seen


@pytest.mark.slow_on_postgresql
def test_metrics_of_many_streams_are_totals(
    versions: dict[str, list[str]], folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.api.project_metrics.MAX_STREAMS", 2)
    registry = open_project(folder).for_stream("news").registry
    registry.fail_run(registry.start_run("timing", "baseline", NOW + timedelta(days=1), None).run_id, "a test", NOW)
    registry.start_run("content", "baseline", NOW, None)
    seen = samples(serve())
    assert not any("stream" in dict(labels) for _, labels in seen)
    totals = {
        "retrainer_streams_in_production": (3, 0),
        "retrainer_streams_failed": (1, 0),
        "retrainer_streams_held": (0, 0),
        "retrainer_streams_running": (0, 1),
    }
    for name, numbers in totals.items():
        assert tuple(seen[of(name, model_type=kind)] for kind in ("timing", "content")) == numbers, name
    assert seen[of("retrainer_streams")] == 3
    assert seen[of("retrainer_newest_post_timestamp_seconds")] == (NOW - timedelta(hours=5)).timestamp()


@pytest.mark.slow_on_postgresql
def test_streams_are_listed_by_page_and_filter(versions: dict[str, list[str]], serve: Serve, retrainer: Runner) -> None:
    server = serve()
    document = server.get("/streams").json()
    assert document == {**retrainer("streams", "--json").json}
    assert [one["stream"] for one in document["streams"]] == NAMES
    page = server.get("/streams?limit=2&page=2").json()
    assert ([one["stream"] for one in page["streams"]], page["count"], page["total"]) == ([NAMES[2]], 1, 3)
    assert server.get("/streams?stream=*ews&model_type=timing").json()["total"] == 2
    assert server.get("/streams?held=true").json()["total"] == 0
    assert server.get("/streams?sort=worst").status_code == 422
    assert server.get("/streams?stream=nothing*").status_code == 404


@pytest.mark.slow_on_postgresql
def test_the_status_covers_all_streams_or_those_that_match(
    versions: dict[str, list[str]], folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.serving.caches.MAX_AGE_SECONDS", 600)
    server = serve()
    assert server.get("/streams").json()["total"] == 3
    assert server.get("/status").json()["streams"] == 3
    assert server.get("/status?stream=*ews").json()["streams"] == 2
    assert server.get("/status?stream=new*").json()["streams"] == 1
    one = server.get(f"/status?stream={in_url(HOSTILE)}").json()
    assert [model["version_id"] for model in one["types"]] == [versions[HOSTILE][0], None]
    assert server.get("/status?stream=new").status_code == 404
    project = open_project(folder)
    project.posts.for_stream("more").add(regular_posts(3), NOW)
    kept = project.registry.database.last_commit() is None  # PostgreSQL does not show that there was a commit
    assert server.get("/status").json()["streams"] == (3 if kept else 4)
    assert server.get("/streams").json()["total"] == (3 if kept else 4)


@pytest.mark.slow
def test_a_retrain_of_all_streams(
    versions: dict[str, list[str]], serve: Serve, waiting: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    everything = {"all_streams": True, "model_type": "timing", "auto_promote": False}
    for wrong in ({"jobs": 2}, {"max_cost": 1.0}, {**everything, "jobs": 0}, {**everything, "max_cost": -1}):
        assert server.post("/models/retrain?stream=news", json=wrong).status_code == 422
    assert server.post("/models/retrain?stream=news", json=everything).status_code == 422
    started = server.post("/models/retrain", json=everything)
    assert (started.status_code, started.json()["run_ids"]) == (202, {"timing": None, "content": None})
    again = server.post("/models/retrain", json=everything)
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "run_in_progress"
    for _ in NAMES:
        turnstile.let_through()
    deadline = time.monotonic() + PATIENCE
    while server.get("/models/training-history?status=completed").json()["total"] < 9:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    runs = server.get("/models/training-history?limit=3").json()["training_runs"]
    assert {run["stream"] for run in runs} == set(NAMES)


@pytest.mark.slow_on_postgresql
def test_a_retrain_of_all_streams_by_a_paid_algorithm_needs_a_limit(
    versions: dict[str, list[str]], folder: Path, serve: Serve
) -> None:
    server = serve()  # which reads the settings again for each retrain
    configure(folder, streams="{'n*': {content_model: {algorithm: claude_api}}}")
    refused = server.post("/models/retrain", json={"all_streams": True})
    assert refused.status_code == 422
    assert "uses the paid algorithm 'claude_api'" in refused.json()["error"]["message"]
    assert refused.json()["error"]["hint"] == "Set max_cost"
    configure(folder, streams="{'*': {retraining: {enabled: false}}}")
    disabled = server.post("/models/retrain", json={"all_streams": True})
    assert disabled.status_code == 409
    assert disabled.json()["error"]["message"] == "retraining is disabled for all streams"
