"""A real cron daemon runs the line installed by `schedule install`."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import pytest
from filelock import FileLock

from tests.conftest import NOW, configure, open_project, regular_posts
from tests.posts.sources.conftest import add_source
from tests.posts.sources.servers import MastodonServer
from tests.programs import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.command_line import Runner

PATIENCE_SECONDS = 400  # cron checks once a minute, and training is slow on a busy machine


@pytest.fixture
def start_cron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    """A function that starts a cron daemon, unless one is running; the crontab is restored at the end.

    It is called after the crontab has been written: a daemon that read the table in the same second would not notice.
    """
    program = installed("cron")
    if os.geteuid() != 0:
        pytest.skip("a cron daemon can be started by root only")
    with FileLock(tmp_path_factory.getbasetemp().parent / "crontab.lock"):  # there is one crontab for all workers
        before = subprocess.run(["crontab", "-l"], capture_output=True, check=False)
        daemons: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            if not any(process.info["name"] == "cron" for process in psutil.process_iter(["name"])):
                daemons.append(subprocess.Popen([program, "-f"]))

        yield start
        if before.returncode == 0:
            subprocess.run(["crontab", "-"], input=before.stdout, check=True)
        else:
            subprocess.run(["crontab", "-r"], check=False, capture_output=True)
        for daemon in daemons:
            # A fork of the daemon waits for each job. It holds the lock that keeps a second daemon from starting.
            jobs = psutil.Process(daemon.pid).children(recursive=True)
            daemon.terminate()
            daemon.wait(timeout=600)
            _, alive = psutil.wait_procs(jobs, timeout=PATIENCE_SECONDS)
            assert not alive, "a job of the cron daemon does not end"


@pytest.mark.slow
def test_cron_runs_the_installed_line(
    start_cron: Callable[[], None], tmp_path: Path, sqlite_folder: Path, retrainer: Runner
) -> None:
    folder = tmp_path / "100% of it's paths"  # characters that are special for cron or the shell
    sqlite_folder.rename(folder)
    configure(folder, enabled="true")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    environment = tmp_path / "env"
    environment.write_text("RETRAINER_RETRAINING__TEST_SPLIT=0.5\n")
    done = retrainer("schedule", "install", "* * * * *", "--env-file", str(environment), "--json", cwd=folder)
    assert done.code == 0, done.err
    start_cron()
    log = folder / "logs" / "retrainer.log"
    _wait_until(lambda: log.exists() and "CONTENT MODEL RETRAINING COMPLETE" in log.read_text())
    history = retrainer("history", "--json", cwd=folder).json["training_runs"]
    assert {run["model_type"] for run in history} == {"timing", "content"}
    assert all(run["promoted_to_production"] for run in history)
    assert "Split data: 60 train, 60 test" in log.read_text(), "the environment file was read"
    # If the minute changed before the command finished, cron may have run the line a minute early.
    promised = datetime.fromisoformat(done.json["next_call_at"])
    assert datetime.fromisoformat(history[-1]["started_at"]) >= promised - timedelta(minutes=1)
    assert retrainer("schedule", "remove", cwd=folder).code == 0
    assert len(retrainer("history", "--json", cwd=folder).json["training_runs"]) == 2
    # If a run takes over a minute, the next one finds it in progress.
    errors = [line for line in log.read_text().splitlines() if " ERROR " in line]
    assert [line for line in errors if "is in progress" not in line] == []


@pytest.mark.slow
def test_cron_fetches_and_trains(
    start_cron: Callable[[], None], sqlite_folder: Path, tmp_path: Path, retrainer: Runner
) -> None:
    """The posts come from a local server that requires a token, which only the environment file holds."""
    environment = tmp_path / "env"
    environment.write_text("ADA_TOKEN=s3cret\n")
    with MastodonServer() as server:
        server.publish(120)
        add_source(sqlite_folder, "ada", {**server.settings(), "token_variable": "ADA_TOKEN"})
        done = retrainer("schedule", "install", "* * * * *", "--env-file", str(environment), "--json")
        assert done.code == 0, done.err
        assert " train --fetch --if-due " in done.json["line"]
        start_cron()
        log = sqlite_folder / "logs" / "retrainer.log"
        _wait_until(lambda: log.exists() and "CONTENT MODEL RETRAINING COMPLETE" in log.read_text())
        assert retrainer("schedule", "remove").code == 0
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer s3cret"}
    assert "Fetched from ada: 120 added" in log.read_text()
    assert "Split data: 96 train, 24 test" in log.read_text()
    assert "s3cret" not in log.read_text()


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "cron did not run the line"
        time.sleep(0.5)
