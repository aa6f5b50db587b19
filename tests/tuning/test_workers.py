"""Several processes work on one study, and are killed or interrupted: no trial is lost or counted twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.clusters import Cluster, Dask, Ray
from tests.conftest import configure
from tests.tuning.waiting import (
    TIMEOUT_SECONDS,
    TRIALS,
    hold,
    install,
    only_study,
    require_each_trial_once,
    start,
    use_storage,
    wait_for,
    waiting_pids,
)

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.plugins_for_tests import Plugins

pytestmark = pytest.mark.slow  # starts processes


@pytest.fixture
def folder(sqlite_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A project on SQLite or as a test is parametrized, whose studies are on the same kind of database."""
    if getattr(request, "param", "sqlite") == "postgresql":
        make = request.getfixturevalue("make_postgresql_database")
        configure(sqlite_folder, url=f'"{make()}"')
        use_storage(sqlite_folder, make())
    return sqlite_folder


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    made: Cluster = request.param(tmp_path / "cluster")
    return made


@pytest.fixture(autouse=True)
def _plugins_are_installed(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plugins.site))
    for name, value in plugins.environ.items():
        monkeypatch.setenv(name, value)


def end(process: subprocess.Popen[str]) -> str:
    """Wait for a command to succeed; return what it logged."""
    _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, err
    return err


def losses(folder: Path) -> Counter[int]:
    """Return how many processes each trial lost, by its number."""
    import optuna

    from retrainer.tuning.storage import close_storage, open_storage
    from tests.conftest import open_project

    project = open_project(folder)
    storage = open_storage(project)
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(storage=storage, study_name=summary.study_name).trials
    found = Counter({trial.number: trial.user_attrs.get("losses", 0) for trial in trials})
    close_storage(storage)
    project.close()
    return +found


@pytest.mark.parametrize("folder", ["sqlite", "postgresql"], indirect=True)
def test_a_command_takes_over_the_trial_of_one_that_was_killed(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder)
    gate = hold(folder)
    commands = [start(folder), start(folder)]
    wait_for(lambda: waiting_pids(folder) == {command.pid for command in commands})
    commands[1].kill()
    commands[1].communicate()
    gate.unlink()
    err = end(commands[0])
    assert f"its process {commands[1].pid} is gone. Trying again" in err
    require_each_trial_once(only_study(folder))
    assert sum(losses(folder).values()) == 1


@pytest.mark.parametrize("folder", ["sqlite", "postgresql"], indirect=True)
def test_two_commands_make_no_more_trials_than_one(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder)
    gate = hold(folder)
    commands = [start(folder, "--jobs", "2"), start(folder)]
    wait_for(lambda: len(waiting_pids(folder)) == 3)  # a command that starts after the end begins another study
    gate.unlink()
    for command in commands:
        end(command)
    report = only_study(folder)
    require_each_trial_once(report)
    assert len({trial.params["steady.hours"] for trial in report.trials}) == TRIALS
    assert not losses(folder)


def test_the_trial_of_a_killed_worker_is_tried_again(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder)
    gate = hold(folder)
    command = start(folder, "--jobs", "2")
    wait_for(lambda: len(waiting_pids(folder)) == 2)
    killed = waiting_pids(folder).pop()
    os.kill(killed, signal.SIGKILL)
    gate.unlink()
    err = end(command)
    assert f"its process {killed} ended with signal 9" in err
    require_each_trial_once(only_study(folder))
    assert sum(losses(folder).values()) == 1


def test_a_killed_command_takes_its_workers_along_and_is_resumed(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder)
    gate = hold(folder)
    command = start(folder, "--jobs", "2")
    wait_for(lambda: len(waiting_pids(folder)) == 2)
    workers = waiting_pids(folder)
    command.kill()
    command.communicate()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    gate.unlink()
    err = end(start(folder))
    assert err.count("Trying again") == 2
    require_each_trial_once(only_study(folder))


@pytest.mark.parametrize(("folder", "jobs"), [("postgresql", "1"), ("sqlite", "2")], indirect=["folder"])
def test_ctrl_c_keeps_what_is_known(folder: Path, plugins: Plugins, jobs: str) -> None:
    install(plugins, folder, train="if config.hours != 30: (folder / 'hold').touch()")  # after trial 0
    command = start(folder, "--jobs", jobs)
    wait_for(lambda: (folder / "hold").exists() and len(waiting_pids(folder)) == int(jobs))
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=TIMEOUT_SECONDS)
    assert command.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: not only_study(folder).summary.counts.get("running", 0))  # its workers end after it
    known = only_study(folder)
    assert known.summary.outcome is None
    (folder / "hold").unlink()
    (folder / "hold").mkdir()  # the plugin cannot make the file again
    end(start(folder))
    report = only_study(folder)
    require_each_trial_once(report)
    for before, after in zip(known.trials, report.trials, strict=False):
        assert not before.params or after.params == before.params  # none: interrupted before it asked for them
        if before.value is not None:
            assert after == before
    if jobs == "1":  # of several workers, one may be interrupted just after it has claimed a trial: it counts as lost
        assert not losses(folder)


def test_ctrl_c_before_any_trial_is_complete_is_no_error_of_the_plot(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder)
    hold(folder)
    command = start(folder, "--plot", "study.svg")
    wait_for(lambda: waiting_pids(folder))
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=TIMEOUT_SECONDS)
    assert command.returncode == 130, err
    assert "'study.svg' was not written: no trial is complete" in err
    assert not (folder / "study.svg").exists()


def test_a_trial_that_kills_its_workers_fails(folder: Path, plugins: Plugins) -> None:
    install(plugins, folder, train="if config.hours > 40: os.kill(os.getpid(), 9)")
    err = end(start(folder, "--jobs", "2"))
    assert "Lost a worker" in err
    report = only_study(folder)
    require_each_trial_once(report)
    for trial in report.trials:
        assert (trial.state == "failed") == (trial.params["steady.hours"] > 40)
    failed = [trial for trial in report.trials if trial.state == "failed"]
    assert failed
    assert all((trial.error or "").startswith("lost 2 times: its process") for trial in failed)


@pytest.mark.parametrize(
    ("folder", "cluster"), [("postgresql", Dask), ("sqlite", Ray)], ids=["dask", "ray"], indirect=True
)
def test_a_cluster_that_loses_a_worker_makes_each_trial_once(folder: Path, plugins: Plugins, cluster: Cluster) -> None:
    install(plugins, folder)
    gate = hold(folder)
    with cluster:
        command = start(folder, *cluster.arguments)
        wait_for(lambda: len(waiting_pids(folder)) == 2)
        killed = waiting_pids(folder).pop()
        os.kill(killed, signal.SIGKILL)
        gate.unlink()
        err = end(command)
    assert "Lost a worker" in err
    require_each_trial_once(only_study(folder))
    assert sum(losses(folder).values()) == 1
