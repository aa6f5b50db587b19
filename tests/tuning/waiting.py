"""A tuned algorithm whose trials wait for the test, and the processes that run them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from retrainer.tuning.results import FINISHED
from retrainer.tuning.study import list_studies, read_study
from tests.command_line import with_default_signals
from tests.conftest import NOW, configure, open_project, regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retrainer.tuning.results import StudyReport
    from tests.plugins_for_tests import Plugins

NAME = "steady"
TRIALS = 12
TIMEOUT_SECONDS = 300
POSTS = 200

_SETUP = """\
from pydantic import BaseModel, ConfigDict

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    hours: float = 30.0
"""
_SPACE = """\
@hookimpl
def search_space(trial):
    return {"hours": trial.suggest_float("hours", 1.0, 60.0)}
"""
_WAIT = """\
import time
folder = Path({folder!r})
(folder / f"at-{{os.getpid()}}").touch()
while (folder / "hold").is_file():
    time.sleep(0.01)
{more}
"""


def install(plugins: Plugins, folder: Path, *, train: str = "") -> None:
    """Install the algorithm `steady`, whose option is the wait in hours, and let the project use it.

    While there is a file `hold` in the project folder, each trial makes a file `at-PID` and waits.

    Args:
        train: statements of `train`; they may use `config`.
    """
    code = timing_algorithm(
        NAME,
        "config.hours",
        setup=_SETUP,
        train=_WAIT.format(folder=str(folder), more=train),
        hooks=_SPACE,
    )
    code = code.replace("def train(posts)", "def train(posts, config)").replace("summary=", "config=Options, summary=")
    plugins.add(NAME, code)
    text = (folder / "config" / "config.yaml").read_text()
    (folder / "config" / "config.yaml").write_text(text.replace("algorithm: baseline", f"algorithm: {NAME}", 1))
    project = open_project(folder)
    project.posts.add(regular_posts(POSTS), NOW)
    project.close()


def use_storage(folder: Path, url: str | None) -> None:
    """Keep the studies of a project in another database."""
    if url is not None:
        configure(folder, storage_url=f'"{url}"')


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `retrainer tune timing` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "retrainer", "tune", "timing", "--trials", str(TRIALS), *arguments],
        cwd=folder,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_signals,  # noqa: PLW1509  no threads yet
    )


def hold(folder: Path) -> Path:
    """Let all trials wait until the file that is returned is deleted."""
    path = folder / "hold"
    path.touch()
    return path


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def waiting_pids(folder: Path) -> set[int]:
    """Return the processes that have begun a fold."""
    return {int(path.name.removeprefix("at-")) for path in folder.glob("at-*")}


def only_study(folder: Path) -> StudyReport:
    """Return the study of the project, which must be the only one."""
    project = open_project(folder)
    try:
        (summary,) = list_studies(project)
        return read_study(project, summary.name)
    finally:
        project.close()


def require_each_trial_once(report: StudyReport) -> None:
    """Check that a study has all its trials, each finished once."""
    assert [trial.number for trial in report.trials] == list(range(TRIALS))
    assert all(trial.state in FINISHED for trial in report.trials)
    assert report.summary.outcome is not None
