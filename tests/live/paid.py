"""A project whose content forecasts cost money, for the tests of stored forecasts and of A/B tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import sqlalchemy as sa

from retrainer.live.paid_forecasts import PaidSide, served_forecasts, shadow_forecasts
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.loading import load_live_fit
from retrainer.pipeline.run import retrain
from retrainer.pipeline.split import load_posts
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.live_tables import LiveForecast
from retrainer.registry.tables import Budget
from tests.claude_server import ClaudeServer
from tests.command_line import environment
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types.content import ContentForecast
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from tests.conftest import Prepare

COUNT, LAST_TRAINED = 76, 69
POSTS = regular_posts(COUNT)
TIMES = [time.to_pydatetime() for time in POSTS["created_at"]]
LIVE = range(LAST_TRAINED + 1, COUNT)
TEST_ID = "ab_content_20241115_120000_abcd"


@pytest.fixture
def claude() -> Iterator[ClaudeServer]:
    """A local server that the SDK uses as the Claude API."""
    with ClaudeServer() as server, environment(server.environ):
        yield server


def train_two_versions(folder: Path) -> tuple[str, str]:
    """Train a version in production and another one with fewer examples; return both."""
    options = {
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API__MAX_TOKENS": "64",
    }
    made: list[str] = []
    with ClaudeServer() as server, environment(server.environ):
        for examples in (6, 3):
            options["RETRAINER_CONTENT_MODEL__CLAUDE_API__EXAMPLES"] = str(examples)
            project = open_project(folder, options)
            if not made:
                project.posts.add(POSTS[: LAST_TRAINED + 1], NOW)
            when = TIMES[LAST_TRAINED] + timedelta(hours=1)
            run = retrain(project, runtime_of(project), "content", when, as_of=True, auto_promote=not made).run
            assert run is not None
            made.append(str(run.model_version_id))
            project.close()
    return made[0], made[1]


class Paid(NamedTuple):
    """A project with a paid version in production, and another one."""

    project: Project
    versions: tuple[str, str]

    @property
    def fit(self) -> str:
        """The fit in production."""
        return self.project.registry.get_version(self.versions[0]).fit

    def predict(self, now: datetime, **asked: Any) -> Any:
        """Forecast the next post as a caller does."""
        return predict_next(self.project, runtime_of(self.project), "content", now, **asked)

    def kept(self) -> list[LiveForecast]:
        with self.project.registry.database.read() as session:
            return list(session.scalars(sa.select(LiveForecast).order_by(LiveForecast.forecast_id)))

    def served(self, rows: Sequence[int] = LIVE) -> list[ContentForecast | None]:
        posts = load_posts(self.project, "content", NOW)
        return served_forecasts(self.project.registry, self.fit, posts, np.array(rows))

    def sides(self, *, calls: bool = True) -> list[PaidSide]:
        """The sides of an A/B test of the two versions."""
        names: tuple[TestSide, TestSide] = ("production", "challenger")
        return [self._side(version_id, name, calls) for version_id, name in zip(self.versions, names, strict=True)]

    def _side(self, version_id: str, name: TestSide, calls: bool) -> PaidSide:
        version = self.project.registry.get_version(version_id)
        model = load_live_fit(self.project, runtime_of(self.project), version) if calls else None
        return PaidSide(TEST_ID, name, version_id, version.fit, model)

    def limit(self, dollars: float) -> None:
        """Set the limit of each side of the test."""
        with self.project.registry.database.write() as session:
            SharedBudget.add_for_test(session, TEST_ID, dollars, NOW)

    def limit_after_two_posts(self) -> float:
        """Make the forecasts of the first two posts, and limit each side to what six of them cost."""
        self.limit(1.0)
        self.shadow(LIVE[:2])
        limit = round(max(self.used()) * 3, 6)
        with self.project.registry.database.write() as session:
            session.execute(sa.update(Budget).values(limit_usd=limit))
        return limit

    def shadow(
        self, rows: Sequence[int] = LIVE, *, of_fleet: SharedBudget | None = None, **sides: Any
    ) -> list[list[ContentForecast | None]]:
        posts = load_posts(self.project, "content", NOW)
        runtime = replace(runtime_of(self.project), shared_budget=of_fleet)
        return shadow_forecasts(self.project, runtime, self.sides(**sides), posts, np.array(rows), NOW)

    def used(self) -> list[float]:
        """What each side has used of its limit."""
        database = self.project.registry.database
        return [
            SharedBudget.of_test(database, TEST_ID, side.side).limit_and_use()[1] for side in self.sides(calls=False)
        ]


@pytest.fixture
def paid(folder: Path, prepare: Prepare) -> Paid:
    configure(folder, evaluation_max_predictions="2")
    return Paid(open_project(folder), prepare(folder, train_two_versions))


@pytest.fixture
def complete(paid: Paid) -> Paid:
    """The same with all posts."""
    paid.project.posts.add(POSTS, NOW)
    return paid


on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)
on_each_database = pytest.mark.parametrize(
    "folder_on_each_database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


def update_posts(project: Project, posts: Any) -> None:
    times = posts["created_at"].astype("datetime64[us, UTC]").astype("int64").tolist()
    rows = [
        (0, 0, "default", post_id, time, text, None, None, None)
        for post_id, time, text in zip(posts["post_id"], times, posts["content"], strict=True)
    ]
    project.posts.merge([rows], NOW, update=True)
