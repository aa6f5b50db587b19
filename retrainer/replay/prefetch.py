"""Worker processes that compute in advance what the steps of a replay will need, whatever is in production by then."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from retrainer.algorithms.manager import load_algorithm
from retrainer.files import private_folder
from retrainer.parallel.child import exit_with
from retrainer.redaction import remove_secrets, without_secrets
from retrainer.replay.cached_algorithm import AlgorithmCache
from retrainer.replay.sandbox import PostHistory, open_sandbox
from retrainer.replay.step import prefetch_step
from retrainer.replay.store import ReplayStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.policy_run import PolicyRun

log = logging.getLogger(__name__)

WORKER_FOLDERS = "ahead"


class Workspace(NamedTuple):
    """What the processes of a replay share.

    Attributes:
        folder: of the replay.
        store: the path of its store.
        location: where the posts are stored, for messages.
        model_type: the model type.
    """

    folder: Path
    store: Path
    location: str
    model_type: ModelTypeName


@contextmanager
def prefetching(
    order: Sequence[tuple[PolicyRun, int]], workspace: Workspace, history: PostHistory, jobs: int
) -> Iterator[Callable[[PolicyRun, int], None]]:
    """Let worker processes compute in advance; yield a function that waits for the workers to finish a step.

    If a worker crashes, the rest is computed without workers.

    Args:
        order: all steps, in the order in which they are taken.
        history: the posts.
        jobs: the number of processes; with 1, nothing is prefetched.
    """
    tasks, task_of_step = plan_tasks(order if jobs > 1 else ())
    if not tasks:
        yield lambda _run, _number: None
        return
    with ExitStack() as stack:
        posts = stack.enter_context(private_folder({})) / "posts.parquet"
        history.posts.to_parquet(posts)
        completed = stack.enter_context(closing(_run_tasks(workspace, posts, tasks, jobs)))
        finished = 0

        def wait(run: PolicyRun, number: int) -> None:
            nonlocal finished
            while finished <= task_of_step.get((run.key, number), -1):
                try:
                    next(completed)
                except BrokenProcessPool:  # a library crashed, or the system is out of memory
                    log.warning("Prefetch worker crashed; continuing without it")
                    finished = len(tasks)
                else:
                    finished += 1

        yield wait


def plan_tasks(order: Iterable[tuple[PolicyRun, int]]) -> tuple[list[tuple[Policy, Step]], dict[tuple[str, int], int]]:
    """Return what can be computed in advance, and the number of the task of each step, by policy key and number."""
    tasks: dict[tuple[object, ...], tuple[int, Policy, Step]] = {}
    task_of_step: dict[tuple[str, int], int] = {}
    for run, number in order:
        if _can_prefetch(run, number):
            task = tasks.setdefault(_inputs(run, number), (len(tasks), run.policy, run.steps[number]))
            task_of_step[run.key, number] = task[0]
    return [task[1:] for task in tasks.values()], task_of_step


def _can_prefetch(run: PolicyRun, number: int) -> bool:
    """Whether a step is still to be taken, is free, and trains a version whatever is in production by then."""
    policy = run.policy
    depends_on_production = number > 0 and (run.can_warm_start or not policy.retrains or policy.tuning is not None)
    return number >= len(run.results) and not depends_on_production and not run.paid


def _inputs(run: PolicyRun, number: int) -> tuple[object, ...]:
    """Return what a step's computations depend on: steps with equal inputs need the same."""
    settings = run.policy.settings.retraining
    training = (
        run.policy.algorithm,
        settings.test_split,
        settings.min_training_samples,
        settings.refits(run.model_type),
    )
    return (*training, settings.max_predictions(run.model_type), settings.origin(run.model_type), run.steps[number])


def _run_tasks(
    workspace: Workspace, posts: Path, tasks: Sequence[tuple[Policy, Step]], jobs: int
) -> Generator[None, None, None]:
    """Run tasks in worker processes; yield as each is completed, in their order."""
    from joblib import Parallel, delayed  # noqa: PLC0415  slow to import, and rarely needed
    from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415

    parallel = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    with without_secrets():
        completed = parallel(delayed(_prefetch)(workspace, posts, policy, step, os.getpid()) for policy, step in tasks)
    try:
        yield from completed
    finally:
        with warnings.catch_warnings(action="ignore"):  # results that nobody waits for are cached all the same
            completed.close()
        get_reusable_executor().shutdown(kill_workers=True)  # idle workers would stay, with their old environment


def _prefetch(workspace: Workspace, posts: Path, policy: Policy, step: Step, parent: int) -> None:
    """Compute what a step will need, in a worker process."""
    exit_with(parent)
    remove_secrets()  # a worker that replaces another may have been started with them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and decides
    logging.disable(logging.CRITICAL)  # the step itself reports
    algorithms = _open_cache(workspace, posts)
    folder = workspace.folder / WORKER_FOLDERS / str(os.getpid())
    sandbox = open_sandbox(folder, policy.settings, algorithms.history)
    try:
        prefetch_step(sandbox, algorithms.runtime(), policy, workspace.model_type, step)
    finally:
        sandbox.close()


@lru_cache(maxsize=1)
def _open_cache(workspace: Workspace, posts: Path) -> AlgorithmCache:
    import pandas as pd  # noqa: PLC0415  slow to import

    history = PostHistory(pd.read_parquet(posts), workspace.location)
    return AlgorithmCache(load_algorithm, ReplayStore(workspace.store), history)
