"""Replay a model type's past: all policies side by side, step by step in the order of time."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.errors import CostLimitReached
from retrainer.replay import workdir as workdirs
from retrainer.replay.budget import require_max_cost
from retrainer.replay.cached_algorithm import AlgorithmCache
from retrainer.replay.latest import record_latest
from retrainer.replay.on_cluster import describe_work, prefetching_on
from retrainer.replay.plan import plan_steps, resolve_span
from retrainer.replay.policies import build_policies
from retrainer.replay.policy_run import PolicyRun, chronological_order
from retrainer.replay.prefetch import Workspace, prefetching
from retrainer.replay.results import Ending, report
from retrainer.replay.sandbox import read_history
from retrainer.replay.store import ReplayStore
from retrainer.streams import stream_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.parallel.cluster import Cluster
    from retrainer.project import Project
    from retrainer.replay.results import ReplayReport
    from retrainer.replay.step import StepResult
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """The progress of a replay.

    Attributes:
        done: steps completed, of all policies.
        total: steps planned, of all policies.
        seconds_left: an estimate.
    """

    done: int
    total: int
    seconds_left: float


def replay(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    start: datetime,
    end: datetime | None = None,
    *,
    policies: Sequence[str] = (),
    workdir: Path | None = None,
    jobs: int = 1,
    cluster: Cluster[Any] | None = None,
    resume: bool = False,
    max_cost: float | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ReplayReport:
    """Replay a model type's past under several policies, without touching the project's database and models.

    The results are kept in the project as those of the latest replay: see `latest`.

    Args:
        now: later posts are not read; it is recorded as the time of the replay.
        start: the time of the first step, UTC.
        end: no step is taken at or after this time, and no later post is used; None for the last post.
        policies: in addition to the three that every replay has; see `build_policies`.
        workdir: where sandboxes and cache are stored; None for `.retrainer/replay` in the project folder.
        jobs: the number of processes that compute in advance; 1 for none.
        cluster: whose workers compute in advance, in place of processes of this machine.
        resume: continue an earlier replay in this folder.
        max_cost: what paid forecasts may cost in US dollars, across resumes; required if there are any.
        on_progress: called after every step.

    Returns:
        The results; if the replay was interrupted or the limit was reached, the results so far.

    Raises:
        UsageError: a policy, the dates or the folder are invalid, or `max_cost` is required.
        InsufficientData: there are never enough posts.
        RunInProgress: another replay uses the folder.
        RetrainerError: the replay cannot go on.
    """
    chosen = build_policies(project.settings, runtime, model_type, policies)
    history = read_history(project, model_type, now)
    span = resolve_span(history, start, end)
    plans = [(policy, plan_steps(policy, history, *span)) for policy in chosen]
    folder = (workdir or project.folder / ".retrainer" / "replay") / stream_folder(project.stream) / model_type
    names = [policy.name for policy in chosen]
    with workdirs.opened(folder, names, resume=resume), closing(ReplayStore(folder / workdirs.STORE)) as store:
        cache = AlgorithmCache(runtime.algorithms, store, history, max_cost)
        sandboxes = folder / workdirs.SANDBOXES
        runs = [PolicyRun.create(*plan, model_type, cache, sandboxes) for plan in plans]
        workspace = Workspace(folder, folder / workdirs.STORE, history.location, model_type)
        try:
            for run in runs:
                run.restore()
            require_max_cost(runs, cache)
            if resume and not any(run.results for run in runs):
                log.warning("No recorded step matches these policies and dates: starting over")
            prefetch = prefetching(chronological_order(runs), workspace, cache.history, jobs)
            if cluster is not None:
                work = describe_work(project, model_type, policies, now, history)
                prefetch = prefetching_on(cluster, work, chronological_order(runs), store)
            ending = _take_steps(runs, prefetch, cache, on_progress)
        finally:
            for run in runs:
                run.sandbox.close()
    results = [(run.policy, run.results) for run in runs]
    failed = [result for _, steps in results for result in steps if result.failed]
    if failed:
        log.warning("%d runs failed, the first as of %s: %s", len(failed), f"{failed[0].at:%Y-%m-%d}", failed[0].reason)
    found = report(model_type, span, results, ending, history.times)
    if any(policy.live is not None for policy in found.policies):
        record_latest(project, found, now)
    return found


def _take_steps(
    runs: Sequence[PolicyRun],
    prefetch: AbstractContextManager[Callable[[PolicyRun, int], None]],
    cache: AlgorithmCache,
    on_progress: Callable[[Progress], None],
) -> Ending:
    """Take the remaining steps of all policies, in the order of time."""
    order = chronological_order(runs)
    total, restored = len(order), sum(len(run.results) for run in runs)
    log.info("Replaying %d steps of %d policies%s", total, len(runs), f"; {restored} are done" if restored else "")
    started = time.monotonic()
    done = restored
    try:
        with prefetch as wait_for:
            for run, number in order:
                if number < len(run.results):
                    continue
                wait_for(run, number)
                _log_step(run, run.take_step(number))
                done += 1
                seconds = (time.monotonic() - started) / (done - restored)
                on_progress(Progress(done, total, seconds * (total - done)))
    except KeyboardInterrupt:
        reason = f"Interrupted after {done} of {total} steps"
        return Ending(reason, interrupted=True, spent_usd=cache.spent_usd)
    except CostLimitReached as error:
        return Ending(f"Stopped after {done} of {total} steps: {error}", spent_usd=cache.spent_usd)
    return Ending(spent_usd=cache.spent_usd)


def _log_step(run: PolicyRun, result: StepResult) -> None:
    if result.failed:
        outcome = "failed"
    elif result.version_id is None:
        outcome = "not retrained"
    else:
        outcome = f"{result.version_id} {'promoted' if result.promoted else 'not promoted'}"
    live = "no posts forecast"
    if result.score is not None:
        live = f"live {result.score:.4f} on {len(result.rows)} posts, naive {result.naive_score:.4f}"
    reason = f" ({result.reason})" if result.reason else ""
    log.debug("%s %s: %s%s; %s", f"{result.at:%Y-%m-%d %H:%M}", run.policy.name, outcome, reason, live)
