"""Other processes that make ahead of time what the steps of a replay will need, whatever is live by then."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import warnings
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from retrainer.algorithms.manager import load_algorithm, set_apart
from retrainer.replay.cache import Work
from retrainer.replay.cached_algorithm import Memory, SpendingLimit
from retrainer.replay.sandbox import PostHistory, open_sandbox
from retrainer.replay.step import prefetch_step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.policy_run import PolicyRun

log = logging.getLogger(__name__)

POSTS = "posts.parquet"
ROOMS = "ahead"


class Place(NamedTuple):
    """What the processes share.

    Attributes:
        folder: of the replay.
        work: the file of kept work.
        source: where the posts are from, for messages.
    """

    folder: Path
    work: Path
    source: str
    model_type: ModelTypeName


@contextmanager
def prefetching(
    order: Sequence[tuple[PolicyRun, int]], place: Place, past: PostHistory, jobs: int
) -> Iterator[Callable[[PolicyRun, int], None]]:
    """Let processes work ahead, and give a function that waits until they have come to a step.

    Where one of them dies, nothing more is made ahead: what is needed is made in its turn, or fails then.

    Args:
        order: all steps, in the order in which they are taken.
        past: the posts.
        jobs: how many processes; with 1, nothing is made ahead.
    """
    tasks: dict[tuple[object, ...], int] = {}
    task_of: dict[tuple[str, int], int] = {}
    chosen: list[tuple[Policy, Step]] = []
    for track, number in order if jobs > 1 else ():
        if not _is_foreseeable(track, number, place.model_type):
            continue
        what = _what_is_made(track, number, place.model_type)
        if what not in tasks:
            tasks[what] = len(chosen)
            chosen.append((track.policy, track.steps[number]))
        task_of[track.key, number] = tasks[what]
    if not chosen:
        yield lambda _track, _number: None
        return
    past.posts.to_parquet(place.folder / POSTS)
    with closing(_done_in_order(place, chosen, jobs)) as done:
        finished = 0

        def wait(track: PolicyRun, number: int) -> None:
            nonlocal finished
            while finished <= task_of.get((track.key, number), -1):
                try:
                    next(done)
                except BrokenProcessPool:  # as where a plugin's library crashes, or the memory is used up
                    log.warning("A process that worked ahead died: the rest is made without such processes")
                    finished = len(chosen)
                else:
                    finished += 1

        yield wait


def _is_foreseeable(track: PolicyRun, number: int, model_type: ModelTypeName) -> bool:
    """Whether a step is still to be taken, trains a version, and costs no money, which is spent in its turn only."""
    if number < len(track.records) or (number > 0 and not track.policy.retrains):
        return False
    return not load_algorithm(track.policy.algorithm, model_type).description.paid


def _what_is_made(track: PolicyRun, number: int, model_type: ModelTypeName) -> tuple[object, ...]:
    """Return what tells tasks apart: two steps that agree in it need the same."""
    settings = track.policy.settings.retraining
    training = (track.policy.algorithm, settings.test_split, settings.min_training_samples)
    return (*training, settings.max_predictions(model_type), settings.origin(model_type), track.steps[number])


def _done_in_order(place: Place, tasks: Sequence[tuple[Policy, Step]], jobs: int) -> Generator[None, None, None]:
    """Work through tasks in other processes; yields when one is done, in their order."""
    from joblib import Parallel, delayed  # noqa: PLC0415  slow to import, and rarely needed
    from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415

    parallel = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    running = parallel(delayed(_make)(place, policy, step, os.getpid()) for policy, step in tasks)
    try:
        yield from running
    finally:
        with warnings.catch_warnings(action="ignore"):  # what was made and is not waited for is kept all the same
            running.close()
        get_reusable_executor().shutdown(kill_workers=True)  # they would stay, with the environment of their beginning


def _make(place: Place, policy: Policy, step: Step, waiting: int) -> None:
    """Make what a step will need, in a process of its own; ends it when the process that waits for it is gone."""
    _end_with(waiting)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for us hears it too, and decides
    memory = _memory(place)
    room = open_sandbox(place.folder / ROOMS / str(os.getpid()), policy.settings, memory.past)
    try:
        with set_apart(memory.algorithm):
            prefetch_step(room, policy, place.model_type, step)
    finally:
        room.close()


@cache
def _end_with(process: int) -> None:
    """End this process as soon as another is gone, by whatever signal: otherwise it would stay for minutes."""
    if sys.platform != "linux":
        return
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="end with the replay", daemon=True).start()


@lru_cache(maxsize=1)
def _memory(place: Place) -> Memory:
    import pandas as pd  # noqa: PLC0415  slow to import

    return Memory(Work(place.work), PostHistory(pd.read_parquet(place.folder / POSTS), place.source), SpendingLimit())
