"""Notifications, metrics and log lines of the server."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import PATIENCE
from tests.api.test_operation import of, samples
from tests.notify.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.conftest import Serve, ServeProcess, Turnstile


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def webhook_environment(receiver: Receiver) -> dict[str, str]:
    """The environment in which a webhook receives every event."""
    return {
        "HOOK": receiver.url,
        "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
        "RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS": "[failure, promotion, rollback, no_promotion]",
    }


def test_changes_through_the_server_are_notified(
    two_versions: tuple[str, str], serve: Serve, receiver: Receiver, webhook_environment: dict[str, str]
) -> None:
    old, new = two_versions
    server = serve(env=webhook_environment)
    assert server.post(f"/models/promote/{new}").status_code == 200
    assert server.post("/models/rollback/timing").status_code == 200
    assert receiver.events() == ["promotion", "rollback"]
    assert [one.json["version_id"] for one in receiver.received] == [new, old]


@pytest.mark.slow
def test_a_killed_run_counts_as_failed_and_is_notified_with_the_next_run(
    trained: str,
    serve: Serve,
    waiting: dict[str, str],
    turnstile: Turnstile,
    folder: Path,
    receiver: Receiver,
    webhook_environment: dict[str, str],
) -> None:
    server = serve(env={**waiting, **webhook_environment})
    command = [sys.executable, "-m", "retrainer", "--quiet", "train", "timing"]
    environ = {**os.environ, **waiting, "WAIT_TO_TRAIN": str(turnstile.path)}
    with subprocess.Popen(command, cwd=folder, env=environ) as run:
        turnstile.await_arrival()
        running = of("retrainer_run_running", model_type="timing")
        assert samples(server)[running] == 1
        run.kill()
    deadline = time.monotonic() + PATIENCE
    while (seen := samples(server))[running]:  # the database did not change, so an answer may be a second old
        assert time.monotonic() < deadline
    assert seen[of("retrainer_last_run_failed", model_type="timing")] == 1
    assert server.get("/models/training-history").json()["training_runs"][0]["status"] == "failed"
    assert receiver.received == [], "looking sends nothing"
    assert server.post("/models/retrain", json={"model_type": "content"}).status_code == 202
    assert receiver.events()[0] == "failure"


@pytest.mark.slow
def test_a_locked_log_file_does_not_hold_up_the_server(serve_process: ServeProcess, folder: Path) -> None:
    log = folder / "server.log"
    log.touch()
    with log.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        server = serve_process("--log-file", str(log))
        assert server.get("/health/live").status_code == 200
        assert server.get("/health/live").status_code == 200
        assert server.stop() == 0
    assert log.read_text().count("GET /health/live 200") == 2
