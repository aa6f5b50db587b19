"""What the tests of replays share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.replay.runner import replay
from tests.conftest import NOW, open_project, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.replay.results import ReplayReport
    from retrainer.replay.step import StepResult

START = datetime(2024, 3, 1, tzinfo=UTC)
END = datetime(2024, 5, 3, tzinfo=UTC)

# Writes a line for every call, so that a test can count them; forecasts the mean gap of its training posts.
COUNTING = """
    import os
    import numpy as np
    from pathlib import Path
    from retrainer.algorithms import Algorithm, hookimpl
    from retrainer.model_types.base import hours_between, utc_times
    from retrainer.model_types.timing import TimingForecasts

    def note(line):
        with Path(os.environ["CALLS"]).open("a") as file:
            file.write(line + "\\n")

    @hookimpl
    def algorithm():
        return Algorithm(name="counting", model_types=("timing",), summary="The mean gap.")

    @hookimpl
    def train(posts):
        note(f"train {len(posts)}")
        times = utc_times(posts)
        return {"hours": float(hours_between(times[:-1], times[1:]).mean())}

    @hookimpl
    def predict(model, posts, origins):
        note(f"predict {model['hours']} {len(posts)} {origins.position.tolist()}")
        quantiles = np.full((len(origins), 99), model["hours"])
        return TimingForecasts(quantiles, quantiles[:, 0])
"""


def replayed(folder: Path | Project, **given: Any) -> ReplayReport:
    """Replay the timing model of the sample for nine weeks, unless told otherwise."""
    from retrainer.project import Project

    project = folder if isinstance(folder, Project) else open_project(folder)
    arguments: dict[str, Any] = {"start": START, "end": END, **given}
    return replay(project, runtime_of(project), arguments.pop("model_type", "timing"), NOW, **arguments)


def told(record: StepResult) -> tuple[Any, ...]:
    """Return what a step came to, without how long it took."""
    return (
        record.at,
        record.until,
        record.digest,
        record.version_id,
        record.promoted,
        record.reason,
        record.improvement_percentage,
        record.rows,
        record.figures,
        record.naive_figures,
        record.later_look,
    )


def everything(report: ReplayReport) -> dict[str, list[tuple[Any, ...]]]:
    """Return what all steps of all policies came to."""
    return {one.policy.name: [told(record) for record in one.steps] for one in report.policies}


@pytest.fixture
def eager(project: Project) -> Path:
    """The folder of a project with the sample posts, in which any better version is promoted."""
    from tests.conftest import configure

    configure(project.folder, min_improvement_threshold="0.0")
    project.close()
    return project.folder
