"""The page of a run: its steps by what is recorded, its log, and the events by which a browser follows it."""

from __future__ import annotations

import html
import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from retrainer.errors import RetrainerError
from retrainer.pipeline.run import retrain
from retrainer.web.run_log import MAX_BYTES, read_run_log
from retrainer.web.views.run import load_record
from retrainer.web.views.run_steps import trace_steps
from tests.api.conftest import NO_TLS, PATIENCE, TOKEN, serve, turnstile, waiting
from tests.command_line import packages
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun
    from retrainer.web.views.run_steps import Step
    from tests.api.conftest import Serve, Server, Turnstile
    from tests.plugins_for_tests import Plugins

__all__ = ["serve", "turnstile", "waiting"]

WAITS_AT_THE_END = """
    import os

    @hookimpl
    def on_event(event):
        if event["kind"] == "run":
            with open(os.environ["WAIT_TO_END"] + ".arrived", "w") as arrived:
                arrived.write("x")
            with open(os.environ["WAIT_TO_END"] + ".go", "rb", buffering=0) as go:
                go.read(1)
"""


def steps_of(project: Project, run: TrainingRun) -> list[Step]:
    return trace_steps(load_record(project, run), NOW)


@pytest.fixture
def project(trained: str, folder: Path) -> Project:
    return open_project(folder)


def test_the_seven_steps_of_a_run_have_times_that_add_up(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run is not None
    steps = steps_of(project, run)
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [step.state for step in steps] == ["done"] * 6 + ["skipped"]
    assert f"{run.num_training_samples} to train" in steps[1].detail
    assert run.model_version_id == steps[2].detail
    assert run.compared_with is not None
    assert steps[4].detail.startswith(run.compared_with)
    ends = [step.ended for step in steps if step.ended]
    assert ends == sorted(ends)
    assert sum(step.seconds or 0 for step in steps) <= (run.duration_seconds or 0) + 1e-3


def test_the_first_run_compares_with_nothing(project: Project) -> None:
    run = project.registry.list_runs("timing")[0]
    compare = steps_of(project, run)[4]
    assert (compare.state, compare.detail) == ("skipped", "there was no production version")


def test_a_run_that_archives_names_the_versions(trained: str, folder: Path) -> None:
    configure(folder, keep_versions="1")
    project = open_project(folder)
    first = retrain(project, runtime_of(project), "timing", NOW, auto_promote=False).run
    second = retrain(project, runtime_of(project), "timing", NOW + timedelta(seconds=1), auto_promote=False).run
    assert first is not None
    assert second is not None
    assert steps_of(project, second)[6].detail == f"archived {first.model_version_id}"
    assert steps_of(project, first)[6].state == "skipped", "another run archived it"


def test_a_failed_run_stops_at_the_step_that_failed(project: Project, plugins: Plugins) -> None:
    plugins.add("broken", timing_algorithm("broken", train="raise ValueError('no luck')"))
    with packages(plugins.environ["PYTHONPATH"]), pytest.raises(RetrainerError, match="no luck"):
        retrain(project, runtime_of(project), "timing", NOW, algorithm="broken")
    run = project.registry.list_runs("timing")[0]
    steps = steps_of(project, run)
    assert [step.state for step in steps] == ["done", "done", "failed", *["waiting"] * 4]
    assert "no luck" in steps[2].detail


def run_at(folder: Path, run_id: str) -> TrainingRun:
    run = open_project(folder).registry.list_runs("timing")[0]
    run.run_id = run_id
    return run


def test_the_log_of_a_scheduled_job_is_searched_for_the_lines_of_a_run(trained: str, folder: Path) -> None:
    logs = folder / "logs"
    logs.mkdir()
    one, other = "run_20240601_030000_aaaa", "run_20240601_030000_bbbb"
    (logs / "retrainer.log.1").write_text(f"2024-06-01T03:00:00Z INFO    {one} Loading\n")
    (logs / "retrainer.log").write_text(
        f"2024-06-01T03:00:01Z ERROR   {one} failed\nTraceback\n  a line of it\n"
        f"2024-06-01T03:00:02Z INFO    {other} Loading\n2024-06-01T03:00:03Z INFO    - done\n"
    )
    log = read_run_log(folder, logs / "runs", run_at(folder, one))
    assert log is not None
    assert log.source == "logs/retrainer.log"
    assert [line.split()[-1] for line in log.lines] == ["Loading", "failed", "Traceback", "it"]
    assert not any(one in line for line in log.lines), "the page says which run it is"
    assert read_run_log(folder, logs / "runs", run_at(folder, "run_20240601_030000_cccc")) is None


def test_a_part_of_the_log_is_read_again_only_when_it_has_changed(trained: str, folder: Path) -> None:
    logs, name = folder / "logs", "run_20240601_030000_dddd"
    logs.mkdir()
    older, current = logs / "retrainer.log.1", logs / "retrainer.log"
    older.write_text(f"2024-06-01T03:00:00Z INFO    {name} first\n")
    current.write_text(f"2024-06-01T03:00:01Z INFO    {name} second\n")

    def read() -> list[str]:
        log = read_run_log(folder, logs / "runs", run_at(folder, name))
        assert log is not None
        return [line.split()[-1] for line in log.lines]

    assert read() == ["first", "second"]
    state = older.stat()
    older.write_text(older.read_text().replace("first", "other"))
    os.utime(older, ns=(state.st_atime_ns, state.st_mtime_ns))
    with current.open("a") as file:
        file.write(f"2024-06-01T03:00:02Z INFO    {name} third\n")
    assert read() == ["first", "second", "third"]


def test_a_log_of_the_server_comes_first_and_only_its_end_is_read(trained: str, folder: Path) -> None:
    logs = folder / "logs" / "runs"
    logs.mkdir(parents=True)
    run = run_at(folder, "run_20240601_030000_aaaa")
    (logs / f"{run.run_id}.log").write_text("first\n" + "x" * MAX_BYTES + "\nlast\n")
    log = read_run_log(folder, logs, run)
    assert log is not None
    assert (log.lines, log.is_cut) == (["last"], True)


@pytest.mark.parametrize("name", ["../../config/config.yaml", "run_../x", "run_20240601_030000_aaaa.log/.."])
def test_a_run_id_is_never_a_path(trained: str, folder: Path, name: str) -> None:
    assert read_run_log(folder, folder / "logs" / "runs", run_at(folder, name)) is None


def test_the_page_of_a_run_shows_decision_evidence_and_where_the_log_is_not(project: Project, serve: Serve) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run is not None
    page = html.unescape(serve().get(f"/run/{run.run_id}").text)
    assert str(run.promotion_reason) in page
    assert "Probability that it is better" in page
    assert "retrainer train --log-file logs/retrainer.log" in page
    assert "data-events" not in page
    assert "run.js" not in page
    assert 'http-equiv="refresh"' not in page


def read_events(server: Server, run_id: str) -> Iterator[tuple[str, Any]]:
    address = f"{server.url}/run/{run_id}/events"
    with httpx2.stream("GET", address, timeout=PATIENCE, verify=NO_TLS) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


@pytest.mark.slow
def test_a_running_run_is_followed_to_its_end(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    turnstile.await_arrival()
    page = server.get(f"/run/{run_id}").text
    assert f'data-events="/run/{run_id}/events"' in page
    assert '<noscript><meta http-equiv="refresh"' in page, "without scripts, the page is loaded again"
    events = read_events(server, run_id)
    name, data = next(events)
    assert name == "run"
    assert data["state"] == "Running step 3 of 7: train a new version."
    assert [step["state"] for step in data["steps"]] == ["done", "done", "running", *["waiting"] * 4]
    assert "Training new timing model" in data["log"]
    turnstile.let_through()
    rest = list(events)
    assert rest[-1][0] == "end"
    last = rest[-2][1]
    assert [step["state"] for step in last["steps"]][:6] == ["done"] * 6


@pytest.mark.slow
def test_a_run_is_followed_to_the_last_line_of_its_log(
    trained: str, serve: Serve, waiting: dict[str, str], plugins: Plugins, turnstile: Turnstile
) -> None:
    """The decision is recorded before observers hear of it, and the last lines come after them."""
    plugins.add_observer("slow", WAITS_AT_THE_END)
    server = serve(env={**waiting, **plugins.environ, "WAIT_TO_END": str(turnstile.path)})
    run_id = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]["timing"]
    turnstile.await_arrival()
    assert f'data-events="/run/{run_id}/events"' in server.get(f"/run/{run_id}").text
    events = read_events(server, run_id)
    name, data = next(events)
    assert (name, data["state"]) == ("run", "Its version was not promoted.")
    assert "RETRAINING COMPLETE" not in data["log"]
    turnstile.let_through()
    rest = list(events)
    assert [name for name, _ in rest] == [*["run"] * (len(rest) - 1), "end"]
    assert "RETRAINING COMPLETE" in rest[-2][1]["log"]
    assert "data-events" not in server.get(f"/run/{run_id}").text


def test_events_need_the_login_where_reads_do(trained: str, serve: Serve) -> None:
    server = serve(protect_reads=True, env={"RETRAINER_API_TOKEN": TOKEN})
    run_id = open_project_run(server)
    answer = httpx2.get(f"{server.url}/run/{run_id}/events", timeout=PATIENCE, verify=NO_TLS)
    assert answer.status_code == 401
    assert not answer.content


def open_project_run(server: Server) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    runs = server.get("/models/training-history", headers=headers).json()["training_runs"]
    return str(runs[0]["run_id"])


def test_events_of_an_unknown_run_are_none(trained: str, serve: Serve) -> None:
    answer = httpx2.get(f"{serve().url}/run/run_20000101_000000_abcd/events", timeout=PATIENCE, verify=NO_TLS)
    assert answer.status_code == 404


def test_the_events_of_a_run_that_is_over_end_at_once(trained: str, serve: Serve) -> None:
    server = serve()
    run_id = server.get("/models/training-history").json()["training_runs"][0]["run_id"]
    assert [name for name, _ in read_events(server, run_id)] == ["run", "end"]


def test_links_of_a_run_and_a_version_name_their_stream_if_there_are_several(
    project: Project, trained: str, serve: Serve
) -> None:
    run = project.registry.list_runs("timing")[0]
    server = serve()
    pages = (f"/run/{run.run_id}", f"/version/{trained}")
    assert not any("?stream=" in server.get(page).text for page in pages)
    project.for_stream("another one").posts.add(regular_posts(3), NOW)
    for page in pages:
        text = server.get(page).text
        assert 'href="/posts?stream=default"' in text
