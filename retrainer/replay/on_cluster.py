"""Workers of a cluster that compute in advance, as those of `prefetch` on this machine.

A worker reads the posts itself. It hands back what it computed, which the replay caches.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.algorithms.events import EventBus
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import PostsError, RetrainerError
from retrainer.logs import mute_run_logs
from retrainer.parallel.child import WorkerLost
from retrainer.parallel.remote_project import open_elsewhere, portable_settings
from retrainer.replay.cached_algorithm import AlgorithmCache
from retrainer.replay.policies import build_policies
from retrainer.replay.prefetch import plan_tasks
from retrainer.replay.sandbox import open_sandbox, read_history
from retrainer.replay.step import prefetch_step
from retrainer.replay.store import ReplayStore
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.parallel.cluster import Cluster
    from retrainer.project import Project
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.policy_run import PolicyRun
    from retrainer.replay.sandbox import PostHistory
    from retrainer.replay.store import CachedResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What all tasks of a replay share.

    Attributes:
        config_file, settings: of the project; see `open_elsewhere`.
        policies: in addition to those that every replay has, as the user gave them.
        now: later posts are not read.
        digest: of the posts, which a worker must find too.
    """

    config_file: Path
    settings: str
    stream: str
    model_type: ModelTypeName
    policies: tuple[str, ...]
    now: datetime
    digest: str


class Task(NamedTuple):
    """A step to compute in advance.

    Attributes:
        is_retry: whether its worker was lost before.
    """

    number: int
    policy: str
    step: Step
    is_retry: bool = False


def describe_work(
    project: Project, model_type: ModelTypeName, policies: Sequence[str], now: datetime, history: PostHistory
) -> Work:
    """Return what all tasks of a replay share."""
    digest = history.digest(len(history))
    settings = portable_settings(project)
    return Work(project.config_file, settings, project.stream, model_type, tuple(policies), now, digest)


@contextmanager
def prefetching_on(
    cluster: Cluster[Any], work: Work, order: Sequence[tuple[PolicyRun, int]], store: ReplayStore
) -> Iterator[Callable[[PolicyRun, int], None]]:
    """Let a cluster compute in advance; yield a function that waits until a step is computed.

    A task whose worker is lost is tried once more; if that fails too, the step computes it itself.
    """
    tasks, task_of_step = plan_tasks(order)
    waiting = deque(Task(number, policy.name, step) for number, (policy, step) in enumerate(tasks))
    missing = set(range(len(tasks)))

    def next_task() -> Task | None:
        return waiting.popleft() if waiting else None

    with closing(cluster.run(partial(prefetch, work), next_task, queue=2)) as results:

        def wait(run: PolicyRun, number: int) -> None:
            while task_of_step.get((run.key, number), -1) in missing:
                try:
                    task, result = next(results)
                except RetrainerError as error:
                    log.warning("Continuing without the cluster: %s", error)
                    missing.clear()
                    return
                if isinstance(result, WorkerLost) and not task.is_retry:
                    waiting.appendleft(task._replace(is_retry=True))
                    continue
                missing.discard(task.number)
                if isinstance(result, WorkerLost):
                    log.warning("A step was not computed in advance: %s", result.reason)
                    continue
                for key, computed in result:
                    store.put(key, computed)

        yield wait


def prefetch(work: Work, task: Task) -> list[tuple[str, CachedResult]]:
    """Compute what a step will need, in a worker; return it by key.

    Raises:
        PostsError: the worker finds other posts.
    """
    project, history = _open(work)
    policy = _policy(work, project, task.policy)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ReplayStore(Path(folder) / "replay.db")) as store,
        mute_run_logs(),  # the step itself reports
    ):
        algorithms = AlgorithmCache(load_algorithm, store, history)
        sandbox = open_sandbox(Path(folder), policy.settings, history)
        try:
            prefetch_step(sandbox, algorithms.runtime(), policy, work.model_type, task.step)
        finally:
            sandbox.close()
        return store.results()


@lru_cache(maxsize=1)
def _open(work: Work) -> tuple[Project, PostHistory]:
    project = open_elsewhere(work.config_file, work.settings, os.environ).for_stream(work.stream)
    history = read_history(project, work.model_type, work.now)
    if history.digest(len(history)) != work.digest:
        raise PostsError(f"the worker sees different posts in {history.location}", hint="Use the same database")
    return project, history


def _policy(work: Work, project: Project, name: str) -> Policy:
    runtime = Runtime(events=EventBus(lambda _: {}, mute=True), answers_dir=project.answers_dir)
    policies = build_policies(project.settings, runtime, work.model_type, work.policies)
    return next(policy for policy in policies if policy.name == name)
