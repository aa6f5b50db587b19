"""Make a project of synthetic posts that has lived through everything that the pages show.

It has versions of both model types, promotions, a rejection, a failed run, a rollback with a hold, live scores, a
running A/B test and a replay. The tests of the pages and the pictures in the documentation use it.
"""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import time_machine

from retrainer.algorithms.events import EventBus
from retrainer.errors import MissingCredentials
from retrainer.live.ab_tests import start_test
from retrainer.live.refresh import refresh_live
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from retrainer.project import Project, create_project
from retrainer.render.events import event_document
from retrainer.replay import runner
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from retrainer.model_types import ModelTypeName

NOW = datetime(2024, 11, 14, 9, 40, tzinfo=UTC)  # on a Thursday, shortly before the first post of the day
START = datetime(2024, 6, 1, 3, tzinfo=UTC)
NUM_POSTS = 1200
SETTINGS = {
    "RETRAINER_CONTENT_MODEL__ALGORITHM": "baseline",
    "RETRAINER_RETRAINING__TIMING_MODEL__EVALUATION_MAX_PREDICTIONS": "300",
    "RETRAINER_RETRAINING__MIN_CONFIDENCE": "0.9",
}


def make_project(folder: Path, more_posts: pd.DataFrame | None = None) -> None:
    """Make the project in a new folder, as if it were `NOW`; it takes a quarter of a minute.

    Args:
        folder: where.
        more_posts: posts besides the synthetic ones.
    """
    create_project(folder)
    with closing(Project.find(folder, SETTINGS)) as project, time_machine.travel(START, tick=False) as clock:
        project.posts.add(sample_posts(count=NUM_POSTS, end=NOW, working_week=True), NOW)
        if more_posts is not None:
            project.posts.add(more_posts, NOW)
        _live_through(project, clock)


def _live_through(project: Project, clock: time_machine.Traveller) -> None:
    """Train, promote, reject, fail, promote by hand, roll back, hold, start an A/B test, score and replay."""
    runtime = Runtime(events=EventBus(event_document, mute=True))

    def train(model_type: ModelTypeName, algorithm: str, now: datetime, *, promote: bool | None = None) -> str:
        clock.move_to(now)
        run = retrain(project, runtime, model_type, now, algorithm=algorithm, auto_promote=promote).run
        assert run is not None  # noqa: S101  only of a dry run
        return str(run.model_version_id)

    first = train("timing", "baseline", START)
    train("content", "baseline", START)
    train("timing", "prophet", datetime(2024, 8, 1, 3, tzinfo=UTC))
    train("timing", "baseline", datetime(2024, 9, 1, 3, tzinfo=UTC))
    with suppress(MissingCredentials):
        train("content", "claude_api", datetime(2024, 9, 1, 3, tzinfo=UTC))
    by_hand = datetime(2024, 9, 12, 14, 5, tzinfo=UTC)
    clock.move_to(by_hand)
    promote_version(project, runtime, first, "simpler", by_hand)
    clock.move_to(by_hand + timedelta(hours=20))
    roll_back(project, runtime, "timing", "misses the evenings", by_hand + timedelta(hours=20))
    clock.move_to(by_hand + timedelta(days=2))
    project.registry.release("timing", "the evenings are predicted again", by_hand + timedelta(days=2))
    challenger = train("timing", "prophet", datetime(2024, 11, 1, 3, tzinfo=UTC), promote=False)
    train("content", "baseline", datetime(2024, 11, 10, 3, tzinfo=UTC))
    clock.move_to(datetime(2024, 11, 11, 9, tzinfo=UTC))
    start_test(project, runtime, "timing", challenger, "newer posts", datetime(2024, 11, 11, 9, tzinfo=UTC))
    clock.move_to(datetime(2024, 11, 12, 10, tzinfo=UTC))
    project.registry.hold("content", "the texts are being reviewed", datetime(2024, 11, 12, 10, tzinfo=UTC))
    clock.move_to(NOW)
    refresh_live(project, runtime, "timing", NOW)
    refresh_live(project, runtime, "content", NOW)
    runner.replay(project, runtime, "timing", NOW, NOW - timedelta(days=40))
