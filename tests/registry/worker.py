"""What the processes do that the tests start, stop and kill: `python -m tests.registry.worker WHAT FOLDER …`."""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from retrainer.algorithms.events import EventBus
from retrainer.errors import NothingToRollBack, PromotionRefused
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.project import Project
from retrainer.render.events import event_document
from retrainer.runtime import Runtime


def first_use(folder: Path) -> None:
    """Open a registry that nobody has used yet, as soon as told to."""
    print("ready", flush=True)
    sys.stdin.readline()
    project = Project.find(folder, {})
    assert project.registry.list_versions() == []
    project.close()


def change(folder: Path, seconds: float, seed: int) -> None:
    """Promote and roll back versions as they come, for a while; losing a race is no failure."""
    choose = random.Random(seed)  # noqa: S311  no secret
    project = Project.find(folder, {})
    ids = [version.version_id for version in project.registry.list_versions("timing")]
    print("ready", flush=True)
    sys.stdin.readline()
    done = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if choose.random() < 0.7:
                promote_version(
                    project,
                    Runtime(EventBus(event_document, mute=True)),
                    choose.choice(ids),
                    f"worker {seed}",
                    datetime.now(UTC),
                )
            else:
                roll_back(
                    project,
                    Runtime(EventBus(event_document, mute=True)),
                    "timing",
                    f"worker {seed}",
                    datetime.now(UTC),
                    hold=False,
                )
            done += 1
        except (PromotionRefused, NothingToRollBack):
            pass
    project.close()
    print(done)


def train(folder: Path, *arguments: str) -> None:
    """Run `retrainer train` in this process, from the moment that everything is imported."""
    for module in ("pandas", "retrainer.pipeline.run", "retrainer.registry.database", "retrainer.posts.store"):
        importlib.import_module(module)
    from retrainer.__main__ import run

    os.chdir(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    sys.exit(run(["train", "timing", *arguments]))


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "first_use":
        first_use(Path(where))
    elif what == "change":
        change(Path(where), float(rest[0]), int(rest[1]))
    else:
        train(Path(where), *rest)
