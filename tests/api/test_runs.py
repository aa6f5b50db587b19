"""Runs started over HTTP: recorded at once, one for each model type, independent of the server."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.api.conftest import PATIENCE, TOKEN, WITH_TOKEN, runs_of
from tests.conftest import configure, open_project

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.api.conftest import Serve, ServeProcess, Turnstile
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins


@pytest.mark.slow
def test_retrain_answers_at_once_with_recorded_runs(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile, folder: Path
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path), "RETRAINER_API_TOKEN": TOKEN})
    answer = server.post("/models/retrain", headers=WITH_TOKEN)
    assert answer.status_code == 202
    document = answer.json()
    assert document["status"] == "started"
    timing, content = document["run_ids"]["timing"], document["run_ids"]["content"]
    running = server.get("/models/training-history?model_type=timing&status=running").json()
    assert [run["run_id"] for run in running["training_runs"]] == [timing]
    assert server.ended(content)["status"] == "completed"
    turnstile.await_arrival()
    assert server.get(f"/models/training-history/{timing}").json()["status"] == "running"
    (process,) = runs_of(folder, "timing")
    (row,) = open_project(folder).registry.list_running_runs()
    assert (row.run_id, row.pid) == (timing, process.pid)
    assert process.nice() > psutil.Process().nice(), "it gives way to the server"
    assert os.getsid(process.pid) == process.pid, "what is sent to the server's terminal does not reach it"
    assert TOKEN not in "".join(process.environ().values())
    assert process.cwd() == str(folder)
    turnstile.let_through()
    run = server.ended(timing)
    assert run["status"] == "completed"
    assert run["algorithm"] == "waiting"
    assert run["model_version_id"].startswith("waiting_timing_")
    process.wait(PATIENCE)
    log = (folder / "logs" / "runs" / f"{timing}.log").read_text()
    assert "TIMING MODEL RETRAINING COMPLETE" in log


@pytest.mark.slow
def test_a_run_survives_a_restart_of_the_server(
    trained: str,
    serve: Serve,
    serve_process: ServeProcess,
    waiting: dict[str, str],
    turnstile: Turnstile,
    folder: Path,
) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        first = serve_process(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
        run_id = first.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
        first.stop(number)
        second = serve(env=waiting)
        assert second.get(f"/models/training-history/{run_id}").json()["status"] == "running"
        turnstile.await_arrival()
        turnstile.let_through()
        assert second.ended(run_id)["status"] == "completed"
        psutil.wait_procs(runs_of(folder), timeout=PATIENCE)


@pytest.mark.slow
def test_only_one_of_several_concurrent_retrains_starts(
    trained: str,
    serve: Serve,
    serve_process: ServeProcess,
    waiting: dict[str, str],
    turnstile: Turnstile,
    folder: Path,
) -> None:
    servers = [start(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)}) for start in (serve, serve_process)]
    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(servers[n % 2].post, "/models/retrain", json={"model_type": "timing"}) for n in range(8)
        ]
    answers = [call.result() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 7]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "run_in_progress"
    assert servers[0].get("/models/training-history?model_type=timing&status=running").json()["count"] == 1
    turnstile.await_arrival()
    assert len(runs_of(folder)) == 1


def test_no_run_starts_if_one_of_both_types_is_busy(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    server.post("/models/retrain", json={"model_type": "timing"})
    before = server.get("/models/training-history").json()["total"]
    assert server.post("/models/retrain").status_code == 409
    assert server.get("/models/training-history").json()["total"] == before
    assert server.post("/models/retrain", json={"model_type": "content"}).status_code == 202


def test_a_run_on_the_command_line_and_one_over_http_exclude_each_other(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile, retrainer: Runner
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    assert retrainer("train", "timing").code == 4
    assert retrainer("train", "timing", "--run-id", run_id).code == 4, "a run is carried out by its own process only"
    assert retrainer("train", "timing", "--run-id", "run_x").code == 2


def test_a_killed_run_is_shown_as_failed(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile, folder: Path
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    turnstile.await_arrival()
    (process,) = runs_of(folder)
    process.kill()
    run = server.ended(run_id)
    assert run["status"] == "failed"
    assert "The run was interrupted" in run["error"]
    assert server.post("/models/retrain", json={"model_type": "timing"}).status_code == 202


def test_a_run_that_cannot_start_records_why(trained: str, serve: Serve, plugins: Plugins) -> None:
    plugins.add("broken", "raise ImportError('no such library')")
    server = serve(env={**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "broken"})
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    run = server.ended(run_id)
    assert run["status"] == "failed"
    assert "the plugin 'broken'" in run["error"]
    assert "no such library" in run["error"]


@pytest.mark.slow
def test_promotion_can_be_switched_off_for_a_run(project: Project, serve: Serve) -> None:
    server = serve()
    for wanted in (False, True):
        options = {"model_type": "timing", "auto_promote": wanted}
        run = server.ended(server.post("/models/retrain", json=options).json()["run_ids"]["timing"])
        assert run["promoted_to_production"] is wanted, run["promotion_reason"]


@pytest.mark.slow
def test_disabled_types_are_not_retrained(trained: str, serve: Serve, folder: Path) -> None:
    server = serve()
    config = folder / "config" / "config.yaml"
    text = config.read_text()
    configure(folder, enabled="false")  # while the server runs: the settings are read at each start
    answer = server.post("/models/retrain")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "retraining is disabled: retraining.enabled is false"
    all_but_the_last, last = text.rsplit("    enabled: true", 1)  # content_model stands last
    config.write_text(f"{all_but_the_last}    enabled: false{last}")
    ids = server.post("/models/retrain").json()["run_ids"]
    assert ids["content"] is None
    assert server.ended(ids["timing"])["status"] == "completed"


@pytest.mark.slow
def test_a_run_goes_on_without_a_log_file(trained: str, serve: Serve, folder: Path) -> None:
    (folder / "logs").write_text("in the way")
    server = serve()
    ids = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]
    assert server.ended(ids["timing"])["status"] == "completed"
    assert any("continues without a log file" in line for line in server.lines)


@pytest.mark.slow
def test_only_the_newest_logs_are_kept(trained: str, serve: Serve, folder: Path) -> None:
    logs = folder / "logs" / "runs"
    logs.mkdir(parents=True)
    for number in range(120):
        (logs / f"run_20200101_{number:06d}_0000.log").touch()
    (logs / "run_0_notes.log").write_text("mine")
    server = serve()
    ids = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]
    server.ended(ids["timing"])
    note, *names = sorted(path.name for path in logs.iterdir())
    assert note == "run_0_notes.log"
    assert len(names) == 100
    assert names[-1] == f"{ids['timing']}.log"
    assert names[0] == "run_20200101_000021_0000.log"
