"""Measure the update of the live scores for one new post, after 10,000 and after 100,000 scored posts.

    make bench-live-update

An update ends when the score of the new post beside the naive forecast is in the database. Everything is imported and
the project is opened before, but nothing is loaded. The milliseconds are medians over 20 new posts, of wall time and of
processor time; the memory is the most that one update had allocated at once. The scores before the new posts are copies
of one row: an update does not read them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from retrainer.algorithms.events import EventBus
from retrainer.live.scores import Totals
from retrainer.live.update import update_live
from retrainer.pipeline.run import retrain
from retrainer.project import Project, create_project
from retrainer.registry.live import append_live_scores
from retrainer.render.events import event_document
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNTIME = Runtime(EventBus(event_document, mute=True))
ALGORITHMS = ("baseline", "prophet")
SCORED = (10_000, 100_000)
TRAINING_POSTS = 2_000
NEW_POSTS = 20
SEED = 1
FIRST = datetime(2012, 1, 1, tzinfo=UTC)


def main() -> None:
    print(f"{'algorithm':<12}{'scored posts':>14}{'update':>12}{'processor':>12}{'memory':>12}")
    for algorithm in ALGORITHMS:
        for scored in SCORED:
            with tempfile.TemporaryDirectory() as folder:
                wall, processor, megabytes = measure(Path(folder), algorithm, scored)
            print(f"{algorithm:<12}{scored:>14,}{wall:>9.1f} ms{processor:>9.1f} ms{megabytes:>9.1f} MB", flush=True)


def measure(folder: Path, algorithm: str, scored: int) -> tuple[float, float, float]:
    """Return wall and processor milliseconds of an update for one post, and the megabytes that it allocates at most."""
    times = prepare(folder, algorithm, scored)
    took = [seconds(folder, now) for now in times[:NEW_POSTS]]
    tracemalloc.start()
    seconds(folder, times[NEW_POSTS])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    wall, processor = (1000 * statistics.median(column) for column in zip(*took, strict=True))
    return wall, processor, peak / 1e6


def seconds(folder: Path, now: datetime) -> tuple[float, float]:
    """Return wall and processor time of an update that finds one new post."""
    project = open_project(folder)
    project.registry.get_production("timing")  # opens the database
    start = time.perf_counter(), time.process_time()
    (comparison,) = update_live(project, RUNTIME, "timing", now)
    took = time.perf_counter() - start[0], time.process_time() - start[1]
    project.close()
    if comparison.through != now:
        raise AssertionError(f"the post of {now} was not scored")
    return took


def prepare(folder: Path, algorithm: str, scored: int) -> Sequence[datetime]:
    """Make a project with a version in production and so many scored posts; return the times of the posts to come."""
    create_project(folder)
    config = folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("algorithm: prophet ", f"algorithm: {algorithm} "))
    project = open_project(folder)
    posts = draw_posts(TRAINING_POSTS + scored + NEW_POSTS + 1)
    project.posts.add(posts, datetime.now(UTC))
    times = [stamp.to_pydatetime() for stamp in posts["created_at"]]
    retrain(project, RUNTIME, "timing", times[TRAINING_POSTS - 1], as_of=True)
    (comparison,) = update_live(project, RUNTIME, "timing", times[TRAINING_POSTS])
    ((score,),) = project.registry.stream_live_scores(comparison.comparison_id)
    copies = [
        score._replace(post_id=str(posts["post_id"][row]), created_at=times[row])
        for row in range(TRAINING_POSTS + 1, TRAINING_POSTS + scored)
    ]
    totals = Totals.of(comparison)
    totals.add(copies)
    through = {"through": copies[-1].created_at, "through_post_id": copies[-1].post_id}
    with project.registry.database.write() as session:
        append_live_scores(session, comparison, copies, {**totals.columns(), **through})
    project.close()
    return times[TRAINING_POSTS + scored :]


def draw_posts(count: int) -> pd.DataFrame:
    """Return posts at exponential gaps of an hour in the mean."""
    gaps = np.random.default_rng(SEED).exponential(3600, count).clip(1)
    created_at = [FIRST + timedelta(seconds=float(second)) for second in np.cumsum(gaps)]
    return pd.DataFrame(
        {
            "post_id": [f"p{row:07d}" for row in range(count)],
            "created_at": pd.DatetimeIndex(created_at).as_unit("us"),
            "content": ["a text"] * count,
            **{
                f"{name}_count": pd.array([None] * count, dtype="Int64")
                for name in ("replies", "reblogs", "favourites")
            },
        }
    )


def open_project(folder: Path) -> Project:
    return Project.find(folder, {})


if __name__ == "__main__":
    main()
