"""`train` of several streams: a run for each model, in processes of which each may die alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
import sqlalchemy as sa

from retrainer.algorithms.events import Event
from retrainer.fleet import worker
from retrainer.fleet.local import LocalProcesses
from retrainer.fleet.run import FleetResult, run_fleet
from retrainer.fleet.selection import select_units
from retrainer.fleet.units import Unit, WorkerSpec
from retrainer.notify.messages import message_of
from retrainer.pipeline.run import retrain
from retrainer.render.events import event_document
from retrainer.render.fleet import describe
from retrainer.render.markdown import summarize_fleet
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.fleet.conftest import add_streams
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # nothing about the database


@pytest.mark.slow_on_postgresql
def test_each_model_of_each_stream_is_a_run_of_its_own(
    folder: Path, streams: list[str], project: Project, retrainer: Runner
) -> None:
    without = retrainer("train", "timing")
    assert without.code == 2
    assert "the project has 3 streams. Choose one with --stream, or train all with --all-streams" in without.err
    some = retrainer("train", "timing", "--stream", "[Nn]ews", "--json")
    assert some.code == 0, some.err
    assert {run["stream"] for run in some.json["training_runs"]} == {"News", "news"}
    done = retrainer("train", "--all-streams", "--if-due", "--jobs", "2", "--json", "--summary", "summary.md")
    assert done.code == 0, done.err
    document = done.json
    assert document["outcomes"] == {"promoted": 4, "not_promoted": 0, "failed": 0, "skipped": 0}
    assert (document["not_due"], document["not_started"], document["errors"]) == (2, [], [])
    assert len(document["training_runs"]) == document["count"] == 4
    assert "| promoted | 4 |" in (folder / "summary.md").read_text()
    for name in streams:
        for model_type in ("timing", "content"):
            (run,) = project.for_stream(name).registry.list_runs(model_type)
            assert run.status == "completed"
    again = retrainer("train", "--all-streams", "--if-due", "--exit-code")
    assert again.code == 11
    assert again.out == "Nothing is due: 6 models were checked.\n"
    assert retrainer("doctor").code == 0


@on_sqlite
def test_a_failure_is_one_line_and_stops_no_other_stream(
    streams: list[str], project: Project, retrainer: Runner
) -> None:
    project.posts.for_stream("few").add(regular_posts(3), NOW)
    done = retrainer("train", "timing", "--all-streams", "--jobs", "2")
    assert done.code == 3
    assert done.err.count("ERROR") == done.err.count("timing of 'few'") == 1
    assert "ERROR: timing of 'few' failed: Insufficient data for training: 3 posts" in done.err
    assert "promoted" in done.out
    assert "4 of 4 runs" in done.out
    assert f"{len(streams)} promoted, 1 failed" in done.out


@on_sqlite
def test_no_run_is_started_after_max_failures(folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    for name in "abc":
        project.posts.for_stream(name).add(regular_posts(3), NOW)
    done = retrainer("train", "timing", "--all-streams", "--max-failures", "2", "--json")
    assert done.code == 3
    assert done.json["outcomes"]["failed"] == 2
    assert done.json["not_started"] == [{"stream": "c", "model_type": "timing"}]
    assert done.json["stopped"] == "Stopped after 2 failures (--max-failures); 1 run was not started"


@on_sqlite
@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "2"],
        ["--max-cost", "1"],
        ["--stream", "news", "--max-failures", "1"],
        ["--all-streams", "--dry-run"],
        ["--all-streams", "--wait", "1"],
        ["--stream", "nwes*"],
        ["--all-streams", "--stream", "nwes"],
        ["--all-streams", "--algorithm", "prophte"],
        ["--all-streams", "--algorithm", "prophet"],
    ],
)
@pytest.mark.usefixtures("streams")
def test_options_that_do_not_fit_are_refused(arguments: list[str], project: Project, retrainer: Runner) -> None:
    refused = retrainer("train", *arguments)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert project.registry.across(None).list_runs() == []


def test_two_fleets_at_once_train_each_stream_once(folder: Path, streams: list[str]) -> None:
    results: list[FleetResult] = []

    def train_all() -> None:
        project = open_project(folder)
        selected = select_units(project, streams, ["timing"], datetime.now(UTC), if_due=True)
        both.wait()
        results.append(run_fleet(project, runtime_of(project), spec, selected, LocalProcesses(2)))

    spec = WorkerSpec(folder / "config" / "config.yaml")
    both = threading.Barrier(2)
    threads = [threading.Thread(target=train_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = sorted(outcome.kind for result in results for outcome in result.outcomes)
    assert kinds == ["promoted"] * len(streams) + ["skipped"] * len(streams)
    assert [result.exit_code for result in results] == [0, 0]
    assert len(open_project(folder).registry.across(None).list_runs()) == len(streams)


def test_a_killed_worker_is_closed_as_failed_and_tried_once_more(
    folder: Path, streams: list[str], project: Project, plugins: Plugins, retrainer: Runner
) -> None:
    killed = folder / "killed"
    kill = f"if not Path({str(killed)!r}).exists(): Path({str(killed)!r}).touch(); os.kill(os.getpid(), 9)"
    plugins.add("deadly", timing_algorithm("deadly", train=kill))
    done = retrainer("train", "timing", "--all-streams", "--algorithm", "deadly", "--json", env=plugins.environ)
    assert done.code == 0, done.err
    assert "the run was interrupted: its process" in done.err
    assert done.json["outcomes"]["promoted"] == len(streams)
    runs = project.registry.across(None).list_runs()
    assert sorted(run.status for run in runs) == ["completed"] * len(streams) + ["failed"]
    assert next(run.error or "" for run in runs if run.status == "failed").startswith("The run was interrupted")
    assert retrainer("doctor", env=plugins.environ).code == 0


@on_sqlite
@pytest.mark.slow
def test_a_worker_that_is_killed_twice_is_a_failure(folder: Path, plugins: Plugins, retrainer: Runner) -> None:
    add_streams(folder, ["long", "other"])
    project = open_project(folder)
    project.posts.for_stream("long").add(regular_posts(90), NOW)
    plugins.add("deadly", timing_algorithm("deadly", train="if len(posts) > 60: os.kill(os.getpid(), 9)"))
    arguments = ("train", "timing", "--all-streams", "--algorithm", "deadly", "--jobs", "2")
    done = retrainer(*arguments, "--json", env=plugins.environ)
    assert done.code == 1
    assert [(error["stream"], error["code"]) for error in done.json["errors"]] == [("long", "worker_lost")]
    assert done.json["outcomes"]["promoted"] == 1
    failed = project.for_stream("long").registry.list_runs("timing")
    assert [run.status for run in failed] == ["failed", "failed"]


@on_sqlite
@pytest.mark.slow  # whole processes
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_stops_handing_out_and_the_next_call_goes_on(
    signals: int, folder: Path, streams: list[str], project: Project, plugins: Plugins, retrainer: Runner
) -> None:
    started, go_on = folder / "started", folder / "go_on"
    wait = f"import time; Path({str(started)!r}).touch()\nwhile not Path({str(go_on)!r}).exists(): time.sleep(0.01)"
    plugins.add("waiting", timing_algorithm("waiting", train=wait))
    arguments = ["train", "timing", "--all-streams", "--if-due", "--algorithm", "waiting"]
    process = subprocess.Popen(
        [sys.executable, "-m", "retrainer", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, **plugins.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    while "Stopping; runs in progress may finish" not in process.stderr.readline():
        assert process.poll() is None
    if signals == 2:
        process.send_signal(signal.SIGTERM)
    else:
        go_on.touch()
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert '"interrupted"' in out if signals == 2 else '"promoted": 1' in out
    runs = project.registry.across(None).list_runs()
    assert [(run.status, run.error) for run in runs] == [
        ("failed", "interrupted") if signals == 2 else ("completed", None)
    ]
    go_on.touch()
    rest = retrainer(*arguments, "--json", env=plugins.environ)
    assert rest.code == 0, rest.err
    assert rest.json["outcomes"]["promoted"] == len(streams) - (signals == 1)
    assert retrainer("doctor", env=plugins.environ).code == 0


@on_sqlite
def test_a_fleet_sends_one_message_and_pings_once(streams: list[str], project: Project, retrainer: Runner) -> None:
    project.posts.for_stream("few").add(regular_posts(3), NOW)
    with Receiver() as receiver:
        environ = {
            "HOOK": f"{receiver.url}/hook",
            "PING": f"{receiver.url}/ping",
            "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
            "RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE": "PING",
        }
        arguments = ("train", "timing", "--all-streams", "--if-due")
        assert retrainer(*arguments, env=environ).code == 3
        assert [request.path for request in receiver.received] == ["/ping/start", "/hook", "/ping/fail"]
        message = receiver.received[1].json
        assert message["event"] == "fleet"
        assert message["text"].startswith("Retraining of several streams finished (")
        assert message["outcomes"] == {"promoted": len(streams), "not_promoted": 0, "failed": 1, "skipped": 0}
        assert "few timing: Insufficient data for training: 3 posts" in message["text"]
        assert message["stale_streams"] == streams  # their newest post is of 2024
        assert "Posts of 3 streams have stopped arriving." in message["text"]
        project.posts.for_stream("few").add(regular_posts(70), NOW)
        failures_only = {**environ, "RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS": "[failure]"}
        assert retrainer(*arguments, env=failures_only).code == 0
        assert [request.path for request in receiver.received[3:]] == ["/ping/start", "/ping"]


def test_a_fleet_that_could_not_start_has_failed() -> None:
    result = FleetResult([], not_started=[Unit("news", "timing")], stopped="Stopped after 0 of 1 run: no workers")
    assert result.exit_code == 1
    message = message_of(event_document(Event("fleet", None, None, describe(result), fleet=result)), "project")
    assert message is not None
    assert message.is_for({"failure"})
    assert summarize_fleet(result).startswith("## ✗ 0 of 1 run in 0 s: 1 not started. Stopped after 0 of 1 run")
    assert describe(FleetResult([], not_due=1)) == "Nothing is due: 1 model was checked"


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_worker_knows_from_its_unit_whether_posts_came_since_the_last_run(
    streams: list[str], project: Project
) -> None:
    def make_run(unit: Unit) -> tuple[str | None, int]:
        """Return what is stale, and how often the last run was looked up."""
        statements.clear()
        outcome = worker.run_unit(spec, unit._replace(started_at=NOW))
        assert outcome.kind == "not_promoted"
        return outcome.stale, sum("ORDER BY retrainer_training_runs.started_at DESC" in each for each in statements)

    spec, statements = WorkerSpec(project.config_file), list[str]()
    engine = worker.open_project(spec.config_file).registry.database.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for name in streams:
        own = project.for_stream(name)
        retrain(own, runtime_of(own), "timing", NOW - timedelta(days=1))
    first, second, _ = select_units(project, streams, ["timing"], NOW, if_due=False).units
    assert make_run(first) == (None, 1)  # when the run is started
    assert make_run(second._replace(last_run_at=None)) == (None, 2)
    (again,) = select_units(project, [first.stream], ["timing"], NOW, if_due=False).units
    stale, _ = make_run(again)
    assert (stale or "").startswith("No post has arrived since the last timing run (2024-11-15 12:00 UTC)")


@on_sqlite
def test_what_is_due_is_found_by_as_many_queries_for_any_number_of_streams(
    folder: Path, streams: list[str], project: Project
) -> None:
    configure(folder, min_new_posts="5")

    def count_statements() -> int:
        project = open_project(folder)
        names = project.list_streams()
        statements: list[str] = []
        sa.event.listen(
            project.registry.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
        )
        selected = select_units(project, names, ["timing", "content"], NOW, if_due=True)
        assert len(selected.units) + selected.not_due == 2 * len(names)
        return len(statements)

    def train(name: str) -> None:
        own = project.for_stream(name)
        retrain(own, runtime_of(own), "timing", NOW)

    train("news")
    before = count_statements()
    add_streams(folder, [f"more {number}" for number in range(12)])
    train("more 1")
    train("more 2")
    assert count_statements() == before


@on_sqlite
def test_a_worker_that_serves_another_project_closes_the_connections_to_the_one_before(
    folder: Path, elsewhere: Path
) -> None:
    first = worker.open_project(folder / "config" / "config.yaml")
    first.registry.list_streams()
    pool = cast("sa.QueuePool", first.registry.database.engine.pool)
    assert pool.checkedin() == 1
    assert worker.open_project(folder / "config" / "config.yaml") is first
    worker.open_project(elsewhere / "config" / "config.yaml")
    assert cast("sa.QueuePool", first.registry.database.engine.pool).checkedin() == pool.checkedout() == 0
