"""A project with a version in production and a challenger whose forecasts are better, equal or worse."""

from __future__ import annotations

import math
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from retrainer.pipeline.run import retrain
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import Plugins, timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project

HOURS = {"near": 5.0, "far": 9.0, "farther": 14.0}
"""Algorithms, and the wait that each forecasts; posts come every 5 hours."""


def binomial_range(count: int, share: float) -> tuple[int, int]:
    """Return the range that holds the number of successes of so many trials, except once in a billion."""
    exact = Fraction(share).limit_denominator(100)
    chances = [math.comb(count, k) * exact**k * (1 - exact) ** (count - k) for k in range(count + 1)]
    totals = list(accumulate(chances))
    return bisect_left(totals, Fraction(1, 2 * 10**9)), bisect_left(totals, 1 - Fraction(1, 2 * 10**9))


class Versions(NamedTuple):
    """The version in production, and those that may challenge it."""

    production: str
    near: str
    far: str
    farther: str


def add_algorithms(plugins: Plugins) -> None:
    """Install the algorithms."""
    for name, hours in HOURS.items():
        plugins.add(name, timing_algorithm(name, hours))


def train_versions(folder: Path) -> Versions:
    """Store 120 posts, promote a version of `far`, and train a challenger of each algorithm."""
    configure(folder, algorithm="far")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    runs = [
        retrain(project, runtime_of(project), "timing", NOW, algorithm=name, auto_promote=number == 0).run
        for number, name in enumerate(("far", *HOURS))
    ]
    project.close()
    ids = [str(run.model_version_id) for run in runs if run is not None]
    return Versions(*ids)


def add_posts(project: Project, count: int, *, after: datetime = NOW) -> datetime:
    """Store posts that come every 5 hours after a time; return the time of the last one."""
    posts = regular_posts(count, start=after + timedelta(hours=5))
    posts["post_id"] = f"{after:%d%H%M%S}-" + posts["post_id"]
    last: datetime = posts["created_at"].iloc[-1].to_pydatetime()
    project.posts.add(posts, last)
    return last


def add_posts_since_start(project: Project, count: int) -> None:
    """Store posts at equal gaps between the start of the running test and now."""
    test = project.registry.get_running_test("timing")
    assert test is not None
    start = test.started_at
    times = pd.date_range(start, datetime.now(UTC), count + 2)[1:-1].as_unit("us")
    posts = regular_posts(count)
    posts["created_at"] = times
    posts["post_id"] = f"{start:%H%M%S%f}-" + posts["post_id"]
    project.posts.add(posts, datetime.now(UTC))
