"""A run that takes longer than `max_run_minutes` ends as failed, wherever it is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from retrainer.doctor import examine
from tests.conftest import NOW, constant_timing, open_project, regular_posts
from tests.notify.receiver import Receiver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Plugins, Runner

SHORT = {"RETRAINER_RETRAINING__MAX_RUN_MINUTES": "0.02"}

# Each is put in the place of training or of a forecast.
STUCK = {
    "asleep": "import time; time.sleep(600)",
    "in a loop that catches every Exception": """while True:
            try:
                sum(range(1000))
            except Exception:
                pass""",
    "in a program that it started": "import subprocess; subprocess.run(['sleep', '601'])",
    # Locks a mutex twice, holding Python's own lock: no signal and no other thread is heard any more.
    "in C code that never returns": (
        "import ctypes; c = ctypes.PyDLL(None); m = ctypes.create_string_buffer(128); "
        "c.pthread_mutex_lock(m); c.pthread_mutex_lock(m)"
    ),
}


@pytest.fixture
def folder(sqlite_folder: Path) -> Path:
    """The database makes no difference here."""
    return sqlite_folder


@pytest.fixture
def live(folder: Path, retrainer: Runner) -> str:
    """A project with a timing version in production; returns its id."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    run = retrainer("train", "timing", "--json").json["training_runs"][0]
    assert run["promoted_to_production"]
    return str(run["model_version_id"])


@pytest.mark.parametrize(("hook", "where"), [*(("train", where) for where in STUCK), ("predict", list(STUCK)[-1])])
def test_a_run_that_is_stuck_fails_and_leaves_nothing(
    hook: str, where: str, live: str, folder: Path, plugins: Plugins, retrainer: Runner
) -> None:
    code = constant_timing("stuck", 5)
    heads = {"train": "def train(posts):", "predict": "def predict(model, origins):"}
    plugins.add("stuck", code.replace(heads[hook], f"{heads[hook]}\n        {STUCK[where]}"))
    with Receiver() as receiver:
        environ = {
            **SHORT,
            **plugins.environ,
            "HOOK": receiver.url,
            "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
            "PING": f"{receiver.url}/ping",
            "RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE": "PING",
        }
        done = retrainer("train", "timing", "--algorithm", "stuck", env=environ)
        assert done.code == 1
        assert "the timing run took longer than 0.02 minutes (retraining.max_run_minutes)" in done.err
        _wait_for_the_second_process(folder)
        paths = [one.path for one in receiver.received]
        assert paths == ["/ping/start", "/", "/ping/fail"]
        assert receiver.received[1].json["event"] == "failure"
    latest, first = retrainer("history", "--json").json["training_runs"]
    assert latest["status"] == "failed"
    assert "took longer" in latest["error"]
    assert first["status"] == "completed"
    assert retrainer("production", "--json").json["timing_model"]["version_id"] == live
    project = open_project(folder)
    assert examine(project) == []
    assert not list(project.models_dir.glob(".staging-*"))
    assert "sleep 601" not in [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert retrainer("train", "timing", env=SHORT | {"RETRAINER_RETRAINING__MAX_RUN_MINUTES": "5"}).code == 0


def _wait_for_the_second_process(folder: Path) -> None:
    """Wait until the process that recorded the failure is gone, if there was one."""
    mine = [
        one for one in psutil.process_iter(["cmdline"]) if f'"{folder}/config/' in " ".join(one.info["cmdline"] or [])
    ]
    _, alive = psutil.wait_procs(mine, timeout=60)
    assert alive == []


def test_the_next_type_has_its_turn(live: str, plugins: Plugins, retrainer: Runner) -> None:
    plugins.add("stuck", constant_timing("stuck", 5).replace("(posts):", f"(posts):\n        {STUCK['asleep']}"))
    done = retrainer("train", "--json", env={**SHORT, **plugins.environ}, RETRAINER_TIMING_MODEL__ALGORITHM="stuck")
    assert done.code == 1
    timing, content = sorted(done.json["training_runs"], key=lambda run: run["model_type"] == "content")
    assert timing["status"] == "failed"
    assert content["model_type"] == "content"


def test_a_run_within_its_limit_is_left_alone(live: str, folder: Path, retrainer: Runner) -> None:
    done = retrainer("train", "timing", env={"RETRAINER_RETRAINING__MAX_RUN_MINUTES": "10"})
    assert done.code == 0
    assert "longer" not in done.err
