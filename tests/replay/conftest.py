"""Fixtures of the replay tests."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.replay.runner import replay
from tests.conftest import NOW, open_project, runtime_of
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.replay.results import ReplayReport
    from retrainer.replay.step import StepResult
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

START = datetime(2024, 3, 1, tzinfo=UTC)
END = datetime(2024, 5, 3, tzinfo=UTC)
TWO_WEEKS_LATER = START + timedelta(days=14)
FOUR_WEEKS_LATER = START + timedelta(days=28)


def counting_algorithm(
    name: str = "counting", *, train: str = "", predict: str = "", wait: str = "model['hours']"
) -> str:
    """Return the code of an algorithm that forecasts the mean gap of its posts and writes a line for every call.

    Args:
        name: of the algorithm.
        train: statements to run first when it is trained.
        predict: statements to run first when it forecasts.
        wait: an expression of the forecast wait.
    """
    return timing_algorithm(
        name,
        "float(hours_between(times[:-1], times[1:]).mean())",
        setup="""
        from retrainer.model_types.base import hours_between, utc_times

        def note(*words):
            with Path(os.environ["CALLS"]).open("a") as file:
                print(*words, file=file)
        """,
        train=f"{textwrap.dedent(train)}\nnote('train', len(posts))\ntimes = utc_times(posts)",
        predict=f"{textwrap.dedent(predict)}\nnote('predict', model['hours'], len(posts), origins.position.tolist())",
        wait=wait,
    )


def replayed(folder: Path | Project, **given: Any) -> ReplayReport:
    """Replay the timing model of the sample for nine weeks, or as `given` says."""
    from retrainer.project import Project

    project = folder if isinstance(folder, Project) else open_project(folder)
    arguments: dict[str, Any] = {"start": START, "end": END, **given}
    return replay(project, runtime_of(project), arguments.pop("model_type", "timing"), NOW, **arguments)


def outcome_of(step: StepResult) -> tuple[Any, ...]:
    """Return the results of a step, except how long it took."""
    return (
        step.at,
        step.until,
        step.digest,
        step.version_id,
        step.promoted,
        step.reason,
        step.improvement_percentage,
        step.rows,
        step.figures,
        step.naive_figures,
        step.later_look,
    )


def outcomes(report: ReplayReport) -> dict[str, list[tuple[Any, ...]]]:
    """Return the results of all steps by policy."""
    return {one.policy.name: [outcome_of(step) for step in one.steps] for one in report.policies}


@pytest.fixture
def eager(project: Project) -> Path:
    """The folder of a project with the sample posts, in which any better version is promoted."""
    from tests.conftest import configure

    configure(project.folder, min_improvement_threshold="0.0")
    project.close()
    return project.folder


@pytest.fixture
def report(eager: Path, prepare: Prepare) -> ReplayReport:
    """The replay of that project in its default folder, which is made once for all tests."""
    return prepare(eager, replayed)


def replay_four_weeks(folder: Path) -> ReplayReport:
    return replayed(folder, end=FOUR_WEEKS_LATER)


@pytest.fixture
def four_weeks(eager: Path, prepare: Prepare) -> ReplayReport:
    """The replay of four weeks of that project in its default folder, which is made once for all tests."""
    return prepare(eager, replay_four_weeks)


@pytest.fixture
def calls(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an algorithm that writes a line for every call; the file that it writes to."""
    plugins.add("counting", counting_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    monkeypatch.setenv("PYTHONPATH", str(plugins.site))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def counting(folder: Path) -> Project:
    return open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "counting"})
