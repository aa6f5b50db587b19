"""A clock that is set, a process id that is used again, and a machine that is renamed harm no run."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.registry.tables import TrainingRun
from tests.conftest import NOW, open_project, regular_posts
from tests.faults.injection import Action, FileFault, WrongClock
from tests.faults.project import environ_of, run_as_worker
from tests.faults.survival import survive
from tests.plugins_for_tests import timing_algorithm
from tests.worker import Worker, command, release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.faults.conftest import Projects
    from tests.plugins_for_tests import Plugins

DAY = 86_400
WAITING = timing_algorithm(
    "waiting", setup="import time", train="while not Path(os.environ['GO']).exists(): time.sleep(0.02)"
)

pytestmark = pytest.mark.usefixtures("needs_compiler")


class LiveRun:
    """A run in another process, which waits in its training until it may go on."""

    def __init__(self, folder: Path, plugins: Plugins, output: Path) -> None:
        plugins.add("waiting", WAITING)
        self._go = output / "go"
        self.env = {**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "waiting", "GO": str(self._go)}
        self.project = open_project(folder)
        self.project.posts.add(regular_posts(120), NOW)
        self.worker = Worker.start(output, command, folder, "train", "timing", env=self.env)
        release([self.worker])
        while not self.project.registry.list_running_runs():
            assert self.worker.is_running(), self.worker.err
            time.sleep(0.02)

    def change_row(self, **columns: Any) -> None:
        """Change the recorded run."""
        (run,) = self.project.registry.list_running_runs()
        with self.project.registry.database.write() as session:
            row = session.get_one(TrainingRun, run.run_id)
            for column, value in columns.items():
                setattr(row, column, value)

    def finish(self) -> int:
        """Let it go on; return its exit code."""
        self._go.touch()
        return self.worker.finish()


@pytest.fixture
def live_run(sqlite_folder: Path, plugins: Plugins, tmp_path: Path) -> Iterator[LiveRun]:
    (tmp_path / "output").mkdir()
    run = LiveRun(sqlite_folder, plugins, tmp_path / "output")
    yield run
    run.worker.kill()
    run.worker.finish()


@pytest.mark.parametrize("seconds", [-DAY, pytest.param(DAY, marks=pytest.mark.slow)])
def test_a_run_goes_on_when_the_clock_is_set(live_run: LiveRun, seconds: int) -> None:
    folder = live_run.project.folder
    for arguments, code in ((("history",), 0), (("doctor",), 0), (("train", "timing"), 4)):
        done = run_as_worker(folder, *arguments, env=live_run.env, fault=WrongClock(seconds))
        assert done.code == code, done.err
        assert len(live_run.project.registry.list_running_runs()) == 1, done.err
    assert live_run.finish() == 0, live_run.worker.err


@pytest.mark.slow
def test_a_run_goes_on_when_the_machine_is_renamed(live_run: LiveRun) -> None:
    live_run.change_row(host="elsewhere")
    done = run_as_worker(live_run.project.folder, "train", "timing", env=live_run.env)
    assert done.code == 4, done.err
    assert live_run.finish() == 0, live_run.worker.err


def test_a_run_whose_process_id_is_used_again_is_closed(live_run: LiveRun) -> None:
    (run,) = live_run.project.registry.list_running_runs()
    live_run.change_row(process_started_at=run.process_started_at - timedelta(seconds=10))
    (dead,) = live_run.project.registry.close_dead_runs()
    assert f"its process {run.pid} is gone" in str(dead.error)


def test_a_heartbeat_from_the_future_does_not_block_for_ever(live_run: LiveRun) -> None:
    """A machine whose clock was wrong wrote it, and was then replaced by another one."""
    live_run.change_row(host="elsewhere", heartbeat_at=datetime.now(UTC) + timedelta(days=365))
    (dead,) = live_run.project.registry.close_dead_runs()
    assert "on 'elsewhere'" in str(dead.error)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, -DAY), (30, DAY), (60, -DAY)]),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in [(1, DAY), (30, -DAY), (60, DAY)]),
    ],
)
def test_a_clock_that_is_set_in_a_run(projects: Projects, tmp_path: Path, number: int, seconds: int) -> None:
    fault = FileFault(Action.CLOCK, number, tmp_path / "case", tmp_path / "report", seconds)
    done, _ = survive(projects, tmp_path, "train", fault)
    assert done.code == 0


@pytest.mark.slow
def test_the_last_decision_counts_when_the_clock_was_set_back(projects: Projects, tmp_path: Path) -> None:
    with projects.copied("promote", tmp_path / "case/project") as folder:
        environ = environ_of(projects.plugins)
        project = open_project(folder)
        first, second = [version.version_id for version in project.registry.list_versions("timing")][1:3]
        assert run_as_worker(folder, "promote", first, env=environ, fault=WrongClock(DAY)).code == 0
        assert run_as_worker(folder, "promote", second, env=environ).code == 0
        live = project.registry.get_production_at("timing", datetime.now(UTC) + timedelta(days=2))
        project.close()
    assert live is not None
    assert live.version_id == second
