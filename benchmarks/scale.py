"""Measure the time and memory of a timing run with few and with very many posts.

    make bench-scale

Each run is a separate process on a SQLite project: it reads the posts, trains `prophet`, and evaluates it and the naive
forecast on 500 test posts. Time is measured after the imports; memory is the peak of the process.
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ORIGINS = 500
COUNTS = (20_000, 1_000_000)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def main() -> None:
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            run("prepare", folder, str(count))
            print(f"{count:9,} posts: {run('train', folder)}", flush=True)


def run(step: str, *arguments: str) -> str:
    """Run one step of this file in a separate process and return its output."""
    command = [sys.executable, "-m", "benchmarks.scale", step, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def prepare(folder: Path, count: int) -> None:
    """Create a project with posts in a daily rhythm, 30 a day on average."""
    import numpy as np
    import pandas as pd

    from retrainer.posts.staging import COUNT_COLUMNS
    from retrainer.project import Project, create_project

    create_project(folder)
    rng = np.random.default_rng(20240601)
    days = count / 30
    moments = np.sort(rng.random(int(count * 1.4)) * days * 24)
    awake = rng.random(len(moments)) < 0.5 + 0.5 * np.sin((moments % 24 - 8) / 24 * 2 * np.pi)
    moments = moments[awake][-count:]
    while len(moments) < count:
        moments = np.sort(np.concatenate([moments, moments[: count - len(moments)] + 0.01]))
    times = pd.DatetimeIndex(pd.Timestamp(NOW) + pd.to_timedelta(moments - moments[-1] - 1, unit="h")).as_unit("us")
    posts = pd.DataFrame({"post_id": [f"{row:08d}" for row in range(count)], "created_at": times, "content": "a post"})
    posts[list(COUNT_COLUMNS)] = pd.NA
    Project.find(folder, {}).posts.add(posts, NOW)


def train(folder: Path) -> None:
    """Retrain the timing model of the project; print the time and memory used."""
    logging.getLogger("prophet.plot").disabled = True  # it warns that plotly is missing
    import prophet  # noqa: F401
    import sqlalchemy  # noqa: F401
    import threadpoolctl  # noqa: F401

    from retrainer import Project, retrain

    settings = {"RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": str(ORIGINS)}
    started = time.perf_counter()
    project = Project.find(folder, settings)
    result = retrain(project, "timing", as_of=NOW)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024
    scored = result.evaluation.num_predictions if result.evaluation else 0
    print(f"{seconds:5.1f} s, {memory:.2f} GiB at peak, {scored} forecasts scored")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        train(Path(sys.argv[2]))
