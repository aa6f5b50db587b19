"""Cached answers: each GET shows what any process has committed before it."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine

from retrainer.pipeline.loading import load_version
from tests.api.conftest import runs_of
from tests.conftest import import_regular_posts, open_project, regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.algorithms.model import TrainedModel
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime
    from tests.api.conftest import Serve, Server, Turnstile
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins


def in_production(server: Server) -> str:
    version_id: str = server.get("/models/production").json()["timing_model"]["version_id"]
    assert server.get("/models/predict/timing").json()["version_id"] == version_id
    listed = server.get("/models/versions?model_type=timing").json()["versions"]
    assert [version["version_id"] for version in listed if version["is_production"]] == [version_id]
    return version_id


def test_a_promotion_by_another_process_is_in_the_next_answer(
    two_versions: tuple[str, str], serve: Serve, retrainer_process: Runner, retrainer: Runner
) -> None:
    server = serve()
    assert in_production(server) == two_versions[0]
    assert retrainer_process("promote", two_versions[1]).code == 0
    assert in_production(server) == two_versions[1]
    for number in range(10):
        assert retrainer("promote", two_versions[number % 2]).code == 0
        assert in_production(server) == two_versions[number % 2]


def test_a_promotion_by_the_server_is_in_the_next_answer(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    for number in range(10):
        assert server.post(f"/models/promote/{two_versions[number % 2]}").status_code == 200
        assert in_production(server) == two_versions[number % 2]


def test_answers_differ_by_their_parameters(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    for _ in range(2):
        assert server.get("/models/versions?model_type=timing").json()["count"] == 2
        assert server.get("/models/versions?limit=1").json()["count"] == 1
        assert server.get("/models/versions?limit=0").status_code == 422


def test_a_version_without_importances_is_loaded_once_and_one_that_failed_again(
    folder: Path, prepare: Prepare, plugins: Plugins, retrainer: Runner, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(folder, import_regular_posts)
    plugins.add("plain", timing_algorithm("plain", hooks="@hookimpl\ndef explain(model):\n    return []"))
    (run,) = retrainer("train", "timing", "--algorithm", "plain", "--json", env=plugins.environ).json["training_runs"]
    loaded: list[str] = []

    def load(project: Project, runtime: Runtime, version: ModelVersion) -> TrainedModel:
        loaded.append(version.version_id)
        return load_version(project, runtime, version)

    monkeypatch.setattr("retrainer.pipeline.loading.load_version", load)
    monkeypatch.setattr("retrainer.serving.caches.MAX_AGE_SECONDS", 0)
    server = serve(env=plugins.environ)
    path = f"/models/versions/{run['model_version_id']}"
    file = folder / "models/timing" / run["model_version_id"] / "model.json"
    before = file.read_bytes()
    file.write_text("changed")
    for _ in range(2):
        assert server.get(path).json()["importance"] == []
    assert len(loaded) == 2
    file.write_bytes(before)
    for _ in range(3):
        assert server.get(path).json()["importance"] == []
    assert len(loaded) == 3


def test_a_restored_database_is_in_the_next_answer(
    sqlite_folder: Path, tmp_path: Path, two_versions: tuple[str, str], serve: Serve, retrainer: Runner
) -> None:
    project = open_project(sqlite_folder)
    database = project.folder / "data" / "retrainer.db"
    project.close()
    backup = tmp_path / "backup.db"
    with sqlite3.connect(database) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    server = serve()
    assert retrainer("promote", two_versions[1]).code == 0
    assert in_production(server) == two_versions[1]
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.move(backup, database)
    assert in_production(server) == two_versions[0]
    database.unlink()
    assert server.get("/models/production").status_code == 503


@pytest.mark.slow
def test_a_run_that_starts_and_dies_is_in_the_next_answer(
    trained: str, waiting: dict[str, str], turnstile: Turnstile, serve: Serve, folder: Path
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    for _ in range(2):
        assert server.get("/models/training-history").json()["total"] == 2
        assert 'retrainer_run_running{model_type="timing"} 0.0' in server.get("/metrics").text
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    turnstile.await_arrival()
    for _ in range(2):
        assert server.get(f"/models/training-history/{run_id}").json()["status"] == "running"
        assert 'retrainer_run_running{model_type="timing"} 1.0' in server.get("/metrics").text
    (process,) = runs_of(folder)
    process.kill()
    assert server.ended(run_id)["status"] == "failed"
    assert server.get("/models/training-history?status=failed").json()["total"] == 1
    assert 'retrainer_last_run_failed{model_type="timing"} 1.0' in server.get("/metrics").text


def test_forecasts_use_the_posts_of_their_time(
    two_versions: tuple[str, str], serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later posts change them, be they imported later or dated later."""
    monkeypatch.setattr("retrainer.serving.caches.MAX_AGE_SECONDS", 0)
    server = serve()
    forecast = server.get("/models/predict/timing").json()
    path = f"/models/compare/{two_versions[0]}/{two_versions[1]}"
    before = server.get(path).json()
    assert server.get(path).json() == before
    project = open_project(folder)
    now = datetime.now(UTC)
    soon = now + timedelta(hours=1)
    times = [*(now - timedelta(hours=hours) for hours in (3, 2, 1)), soon]
    posts = regular_posts(4).assign(created_at=times, post_id=["x1", "x2", "x3", "x4"])
    assert project.posts.add(posts, now) == 4
    assert not project.posts.are_past(now)
    newest = server.get("/models/predict/timing").json()
    assert newest["last_post_at"] > forecast["last_post_at"]
    assert newest["last_post_at"] < newest["made_at"]
    after = server.get(path).json()
    assert after["window"]["posts"] == before["window"]["posts"] + 3
    with time_machine.travel(soon + timedelta(hours=1)):
        assert server.get(path).json()["window"]["posts"] == before["window"]["posts"] + 4
